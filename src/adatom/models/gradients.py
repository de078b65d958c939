"""Forces, virials and Hessian as derivatives of the energy, once for all models.

The energy depends on positions and cell only through the edge vectors v_e, so with
g_e = dE/dv_e: F_i = sum(g over edges into i) - sum(g over edges out of i), and the virial is
sum_e g_e (x) v_e. This equals dE/d(strain) for r' = r (I + strain), h' = h (I + strain).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adatom.models.base import Neighborhood

#: Rows of a Hessian that are computed together when they are vectorized.
_ROWS_AT_ONCE = 48


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
        system = torch.repeat_interleave(
            torch.arange(num_systems, device=gradient.device),
            edge.counts,
            output_size=gradient.shape[0],
        )
        virial = virial.index_add(0, system, _outer(gradient, edge))
    return _symmetric(virial)


def atomic_virials_from(
    gradients: Sequence[torch.Tensor], edges: Sequence[Neighborhood], num_atoms: int
) -> torch.Tensor:
    """Share the virial among the atoms, ``[N, 3, 3]`` in float64.

    Each edge's part ``g_e (x) v_e`` goes half to its source and half to its target, and the sum
    on each atom is made symmetric. The sum over the atoms of a system is its
    :func:`virial_from`. Other ways to share it among the atoms have the same sum.
    """
    virials = gradients[0].new_zeros((num_atoms, 9), dtype=torch.float64)
    for gradient, edge in zip(gradients, edges, strict=True):
        half = 0.5 * _outer(gradient, edge)
        virials = virials.index_add(0, edge.target, half).index_add(0, edge.source, half)
    return _symmetric(virials)


def hessian_from(
    forces: torch.Tensor,
    edges: Sequence[Neighborhood],
    *,
    vectorized: bool = True,
    create_graph: bool = False,
) -> torch.Tensor:
    """Differentiate forces with respect to positions.

    Args:
        forces: ``[N, 3]``, made from edge gradients with ``create_graph=True``.
        edges: The distinct neighborhoods that ``forces`` depend on.
        vectorized: Compute many rows at once (faster, more memory), or one after the other.
        create_graph: Keep the graph, for a loss on the Hessian.

    Returns:
        ``[3N, 3N]``, minus the derivative of each force component with respect to each position
        component: rows and columns are x, y, z of atom 0, then of atom 1, and so on.
    """
    num_atoms = forces.shape[0]
    if not forces.requires_grad:
        return forces.new_zeros((3 * num_atoms, 3 * num_atoms))
    vectors = [edge.vectors for edge in edges]

    def row(chosen: torch.Tensor) -> torch.Tensor:
        slopes = torch.autograd.grad(
            forces.flatten(),
            vectors,
            chosen,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
            materialize_grads=True,
        )
        return forces_from(slopes, edges, num_atoms).flatten()

    components = torch.eye(3 * num_atoms, dtype=forces.dtype, device=forces.device)
    if vectorized:
        return torch.vmap(row, chunk_size=_ROWS_AT_ONCE)(components)
    return torch.stack([row(component) for component in components])


def cell_volume(cell: torch.Tensor) -> torch.Tensor:
    """Return ``|det cell|`` ``[B]`` in float64."""
    determinant: torch.Tensor = torch.linalg.det(cell.double())
    return determinant.abs()


def _outer(gradient: torch.Tensor, edge: Neighborhood) -> torch.Tensor:
    """Return ``g_e (x) v_e`` of each edge, ``[E, 9]`` in float64."""
    return (gradient.double().unsqueeze(2) * edge.vectors.double().unsqueeze(1)).flatten(1)


def _symmetric(rows: torch.Tensor) -> torch.Tensor:
    """Return the symmetric part of ``[R, 9]`` as ``[R, 3, 3]``."""
    matrices = rows.view(-1, 3, 3)
    return 0.5 * (matrices + matrices.transpose(1, 2))
