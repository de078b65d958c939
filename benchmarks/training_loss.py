"""The loss that all programs minimize in the comparison, and how they do it."""

from __future__ import annotations

import torch


def training_loss(
    energy: torch.Tensor,
    forces: torch.Tensor,
    targets: tuple[torch.Tensor, torch.Tensor],
    natoms: torch.Tensor,
) -> torch.Tensor:
    """Return 20 times the mean error of the energy per atom plus 2 times that of force vectors.

    These are the weights of UMA's conserving stage (shared/reference/training.md).

    Args:
        energy: ``[B]`` in network units.
        forces: ``[N, 3]`` in network units.
        targets: Energies ``[B]`` and forces ``[N, 3]``.
        natoms: ``[B]``.
    """
    per_atom = (energy.double() - targets[0]).abs() / natoms
    vectors = torch.linalg.vector_norm(forces - targets[1].to(forces.dtype), dim=-1)
    loss: torch.Tensor = 20.0 * per_atom.mean() + 2.0 * vectors.double().mean()
    return loss


def step_once(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor
) -> dict[str, float]:
    """Do the backward pass and the optimizer step; return loss and norm of the gradient."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    optimizer.step()
    return {"loss": float(loss.detach()), "gradient_norm": float(norm)}


def count_parameters(model: torch.nn.Module) -> int:
    """Return the number of weights that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
