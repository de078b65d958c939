"""From candidate pairs to the edge list: the one place that decides what an edge is."""

from __future__ import annotations

import torch

from adatom.graph.candidates import SortedCandidates
from adatom.graph.edges import Edges
from adatom.graph.max_neighbors import nearest_mask
from adatom.graph.overlap import require_apart
from adatom.graph.periodic_systems import PeriodicSystems

#: Atoms closer than this (angstrom) are one point up to float rounding, and have no direction.
SAME_POINT = 1e-6


def select_edges(
    systems: PeriodicSystems,
    candidates: SortedCandidates,
    cutoff: float,
    max_neighbors: int | None = None,
    min_distance: float = 0.0,
) -> Edges:
    """Keep the candidates that are edges, in their order.

    Args:
        systems: Current positions and cells.
        candidates: All pairs within the cutoff, and possibly longer ones.
        cutoff: In angstrom.
        max_neighbors: See :func:`adatom.graph.max_neighbors.nearest_mask`.
        min_distance: See :func:`adatom.graph.overlap.require_apart`.

    Raises:
        GraphError: If two atoms are nearer than ``min_distance``.
    """
    square = squared_distances(systems, candidates)
    require_apart(systems, candidates, square, min_distance)
    kept = torch.nonzero(are_edges(square, cutoff)).flatten()
    if max_neighbors is not None:
        target = candidates.target.index_select(0, kept)
        near = nearest_mask(square.index_select(0, kept), target, systems.num_atoms, max_neighbors)
        kept = kept if near is None else kept[near]
    return take_edges(systems, candidates, kept)


def are_edges(square: torch.Tensor, cutoff: float) -> torch.Tensor:
    """Tell which squared distances ``[P]`` are those of edges, ``[P]`` bool."""
    return (square <= cutoff * cutoff) & (square > SAME_POINT * SAME_POINT)


def take_edges(systems: PeriodicSystems, candidates: SortedCandidates, kept: torch.Tensor) -> Edges:
    """Make edges of the candidates in the rows ``kept [E]`` (int64, increasing)."""
    source = candidates.source.index_select(0, kept)
    target = candidates.target.index_select(0, kept)
    if systems.num_systems == 1:
        counts = torch.tensor([len(kept)], device=kept.device)
    else:
        counts = torch.bincount(systems.batch[target], minlength=systems.num_systems)
    return Edges(torch.stack([source, target]), candidates.offsets.index_select(0, kept), counts)


def squared_distances(systems: PeriodicSystems, candidates: SortedCandidates) -> torch.Tensor:
    """Return ``|r_j - r_i + n @ cell|^2``, ``[P]`` float64, in square angstrom.

    Written out in single multiplications and additions, because a matrix product may round
    differently from one library, batch size or device to the next, and a pair at the very cutoff
    would then come and go. Both directions of a pair give the same number to the last bit.
    """
    squares: list[torch.Tensor] = []
    for axis, coordinate in enumerate(systems.pos.T.contiguous()):
        along = coordinate.index_select(0, candidates.source)
        along = along - coordinate.index_select(0, candidates.target)
        if candidates.images is not None:
            first, second, third = candidates.images
            a, b, c = _lattice(systems, candidates.target, axis)
            along = along + (first * a + second * b + third * c)
        squares.append(along * along)
    return squares[0] + squares[1] + squares[2]


def _lattice(systems: PeriodicSystems, target: torch.Tensor, axis: int) -> torch.Tensor:
    """Return one Cartesian component of the lattice vectors: ``[3]``, or ``[3, P]`` in a batch."""
    if systems.num_systems == 1:
        return systems.cell[0, :, axis]
    system = systems.batch.index_select(0, target)
    components: torch.Tensor = systems.cell[:, :, axis].T.contiguous()
    return components.index_select(1, system)
