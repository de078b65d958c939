"""Forces and stress as derivatives of the energy, once for all models.

The energy depends on positions and cell only through the edge vectors v_e, so with
g_e = dE/dv_e: F_i = sum(g over edges into i) - sum(g over edges out of i), and the virial is
sum_e g_e (x) v_e. This equals dE/d(strain) for r' = r (I + strain), h' = h (I + strain).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adatom.models.base import Neighborhood


def edge_gradients(
    energy: torch.Tensor, edges: Sequence[Neighborhood], *, create_graph: bool
) -> list[torch.Tensor]:
    """Differentiate the summed energy with respect to each distinct neighborhood's vectors.

    Args:
        energy: ``[B]`` energies.
        edges: Distinct neighborhoods whose ``vectors`` require gradients.
        create_graph: Keep the graph, for a loss on forces or for second derivatives.

    Returns:
        One ``[E, 3]`` tensor per neighborhood (zeros where the energy does not depend on it).
    """
    if not energy.requires_grad:
        return [torch.zeros_like(e.vectors) for e in edges]
    gradients = torch.autograd.grad(
        energy.sum(), [e.vectors for e in edges], create_graph=create_graph, allow_unused=True
    )
    return [
        torch.zeros_like(e.vectors) if g is None else g
        for e, g in zip(edges, gradients, strict=True)
    ]


def forces_from(
    gradients: Sequence[torch.Tensor], edges: Sequence[Neighborhood], num_atoms: int
) -> torch.Tensor:
    """Sum edge gradients into forces ``[N, 3]`` (minus dE/dr)."""
    first = gradients[0]
    forces = first.new_zeros((num_atoms, 3))
    for gradient, edge in zip(gradients, edges, strict=True):
        forces = forces.index_add(0, edge.target, gradient)
        forces = forces.index_add(0, edge.source, -gradient)
    return forces


def virial_from(
    gradients: Sequence[torch.Tensor], edges: Sequence[Neighborhood], num_systems: int
) -> torch.Tensor:
    """Sum edge gradients into the symmetric dE/d(strain) ``[B, 3, 3]`` in float64."""
    virial = gradients[0].new_zeros((num_systems, 9), dtype=torch.float64)
    for gradient, edge in zip(gradients, edges, strict=True):
        outer = (gradient.double().unsqueeze(2) * edge.vectors.double().unsqueeze(1)).flatten(1)
        system = torch.repeat_interleave(
            torch.arange(num_systems, device=outer.device),
            edge.counts,
            output_size=outer.shape[0],
        )
        virial = virial.index_add(0, system, outer)
    virial = virial.view(num_systems, 3, 3)
    return 0.5 * (virial + virial.transpose(1, 2))


def cell_volume(cell: torch.Tensor) -> torch.Tensor:
    """Return ``|det cell|`` ``[B]`` in float64."""
    determinant: torch.Tensor = torch.linalg.det(cell.double())
    return determinant.abs()
