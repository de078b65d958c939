"""Weights of which each process holds a part (FSDP2), and the same weights as a whole."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from adatom.core.errors import ConfigError


def shard(module: nn.Module, mesh: DeviceMesh, *, trained: bool) -> None:
    """Let each process keep its part of every parameter, in place.

    The whole module is one unit: its forward pass gathers all weights once, and forces, which are
    derivatives inside of that forward pass, need no communication of their own. (Units inside of
    it, such as single layers, free their weights in the inner derivative, before the outer one
    needs them: torch 2.13 then stops with "storage of size 0".)

    Args:
        module: What is called as a whole; parameters on the device of ``mesh``, the same on all
            processes.
        mesh: One-dimensional, of all processes.
        trained: Whether there are backward passes, which free the gathered weights. If not, the
            forward pass does; else later changes of the parts would not be seen.

    Raises:
        ConfigError: If a parameter is a single number without a dimension.
    """
    scalars = [name for name, parameter in module.named_parameters() if parameter.dim() == 0]
    if scalars:
        raise ConfigError(
            f"The parameter {scalars[0]} is a number without dimension, which cannot be shared out",
            expected="parameters of shape (1,) or more",
            fix="Train with train_strategy: ddp.",
        )
    fully_shard(module, mesh=mesh, reshard_after_forward=not trained)


def is_sharded(module: nn.Module) -> bool:
    """Whether :func:`shard` was called with this module."""
    return isinstance(module, FSDPModule)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return all of a tensor of which each process has a part; every process must call this.

    Other tensors are returned as they are.
    """
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of the whole parameters and persistent buffers on the CPU.

    Every process must call this; the parts are gathered one parameter after the other.
    """
    return {
        name: whole(value).detach().to("cpu", copy=True).contiguous()
        for name, value in module.state_dict().items()
        if isinstance(value, torch.Tensor)
    }


def gradients_of(loss: torch.Tensor, module: nn.Module) -> dict[str, torch.Tensor | None]:
    """Return the gradients of a loss by trained parameter, and leave none behind.

    With shared out weights every process must call this, and each gets its part of the mean over
    the processes.

    Args:
        loss: ``[]`` with graph.
        module: Whose parameters have no gradients now.
    """
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not is_sharded(module):
        found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        return dict(zip(trained, found, strict=True))
    # The weights in the graph are the gathered ones; a backward pass leads to the parts.
    loss.backward()
    parts = {name: p for name, p in module.named_parameters() if p.requires_grad}
    gradients: dict[str, torch.Tensor | None] = {}
    for name, parameter in parts.items():
        gradient, parameter.grad = parameter.grad, None
        gradients[name] = gradient.to_local() if isinstance(gradient, DTensor) else gradient
    return gradients


def copy_from_first_rank(module: nn.Module) -> None:
    """Give every process the parameters and buffers of rank 0."""
    for value in (*module.parameters(), *module.buffers()):
        distributed.broadcast(value.detach(), src=0)


def total_norm(gradients: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the norm of all gradients together, the same on every process.

    Args:
        gradients: Whole or sharded, all in the same way.

    Returns:
        ``[]`` tensor.
    """
    return whole(nn.utils.get_total_norm(list(gradients)))
