"""Forces, virials and Hessian as derivatives of the energy, once for all models.

A backbone's energy depends on positions and cell only through the edge vectors v_e, so with
g_e = dE/dv_e: F_i = sum(g over edges into i) - sum(g over edges out of i), and the virial is
sum_e g_e (x) v_e. This equals dE/d(strain) for r' = r (I + strain), h' = h (I + strain).

Networks that also take positions or the cell themselves are given displaced ones (see
:mod:`adatom.models.placement`); what these contribute adds to the sums over edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from adatom.core.errors import ConfigError
from adatom.models.base import Neighborhood
from adatom.models.placement import Placement

#: Rows of a Hessian that are computed together when they are vectorized.
_ROWS_AT_ONCE = 48


class Gradients(NamedTuple):
    """Derivatives of the summed energy.

    Attributes:
        vectors: One ``[E, 3]`` per neighborhood, by its edge vectors.
        shift: ``[N, 3]`` by positions at fixed edge vectors, or None where there is no dependence.
        strain: ``[B, 3, 3]`` by the strain at fixed edge vectors, or None.
    """

    vectors: Sequence[torch.Tensor]
    shift: torch.Tensor | None = None
    strain: torch.Tensor | None = None


def energy_gradients(
    energy: torch.Tensor,
    edges: Sequence[Neighborhood],
    placement: Placement | None = None,
    *,
    create_graph: bool,
) -> Gradients:
    """Differentiate the summed energy.

    Args:
        energy: ``[B]`` energies.
        edges: Distinct neighborhoods whose ``vectors`` require gradients.
        placement: What moved the positions and the cell, where the network was given them.
        create_graph: Keep the graph, for a loss on forces or for second derivatives.

    Returns:
        Zeros where the energy does not depend on a neighborhood.
    """
    vectors = [e.vectors for e in edges]
    if not energy.requires_grad:
        return Gradients([torch.zeros_like(v) for v in vectors])
    leaves = vectors if placement is None else [*vectors, placement.shift, placement.strain]
    found = torch.autograd.grad(energy.sum(), leaves, create_graph=create_graph, allow_unused=True)
    by_vectors = [
        torch.zeros_like(v) if g is None else g for v, g in zip(vectors, found, strict=False)
    ]
    return Gradients(by_vectors, *found[len(vectors) :])


def forces_from(
    gradients: Gradients, edges: Sequence[Neighborhood], num_atoms: int
) -> torch.Tensor:
    """Sum gradients into forces ``[N, 3]`` (minus dE/dr)."""
    forces = gradients.vectors[0].new_zeros((num_atoms, 3))
    for gradient, edge in zip(gradients.vectors, edges, strict=True):
        forces = forces.index_add(0, edge.target, gradient)
        forces = forces.index_add(0, edge.source, -gradient)
    return forces if gradients.shift is None else forces - gradients.shift.to(forces.dtype)


def virial_from(
    gradients: Gradients, edges: Sequence[Neighborhood], num_systems: int
) -> torch.Tensor:
    """Sum gradients into the symmetric dE/d(strain) ``[B, 3, 3]`` in float64."""
    virial = gradients.vectors[0].new_zeros((num_systems, 9), dtype=torch.float64)
    if gradients.strain is not None:
        virial = virial + gradients.strain.double().flatten(1)
    for gradient, edge in zip(gradients.vectors, edges, strict=True):
        system = torch.repeat_interleave(
            torch.arange(num_systems, device=gradient.device),
            edge.counts,
            output_size=gradient.shape[0],
        )
        virial = virial.index_add(0, system, _outer(gradient, edge))
    return _symmetric(virial)


def atomic_virials_from(
    gradients: Gradients, edges: Sequence[Neighborhood], num_atoms: int
) -> torch.Tensor:
    """Share the virial among the atoms, ``[N, 3, 3]`` in float64.

    Each edge's part ``g_e (x) v_e`` goes half to its source and half to its target, and the sum
    on each atom is made symmetric. The sum over the atoms of a system is its
    :func:`virial_from`. Other ways to share it among the atoms have the same sum.

    Raises:
        ConfigError: If the energy depends on positions or the cell beside the edge vectors.
    """
    if gradients.shift is not None or gradients.strain is not None:
        raise ConfigError(
            "The energy depends on positions or the cell beside the edge vectors, so its virial "
            "is no sum over edges that could be shared among the atoms",
            fix="Ask for the stress, or take geometry from edge vectors only.",
        )
    virials = gradients.vectors[0].new_zeros((num_atoms, 9), dtype=torch.float64)
    for gradient, edge in zip(gradients.vectors, edges, strict=True):
        half = 0.5 * _outer(gradient, edge)
        virials = virials.index_add(0, edge.target, half).index_add(0, edge.source, half)
    return _symmetric(virials)


def hessian_from(
    forces: torch.Tensor,
    edges: Sequence[Neighborhood],
    placement: Placement | None = None,
    *,
    vectorized: bool = True,
    create_graph: bool = False,
) -> torch.Tensor:
    """Differentiate forces with respect to positions.

    Args:
        forces: ``[N, 3]``, made from gradients with ``create_graph=True``.
        edges: The distinct neighborhoods that ``forces`` depend on.
        placement: As for the gradients that ``forces`` are made from.
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
    leaves = vectors if placement is None else [*vectors, placement.shift]

    def row(chosen: torch.Tensor) -> torch.Tensor:
        slopes = torch.autograd.grad(
            forces.flatten(),
            leaves,
            chosen,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
            materialize_grads=True,
        )
        gradients = Gradients(slopes[: len(vectors)], *slopes[len(vectors) :])
        return forces_from(gradients, edges, num_atoms).flatten()

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
