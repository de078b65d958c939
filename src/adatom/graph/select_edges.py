"""From candidate pairs to the edge list: the one place that decides what an edge is."""

from __future__ import annotations

import torch

from adatom.graph.candidates import Candidates
from adatom.graph.edges import Edges
from adatom.graph.max_neighbors import nearest_mask
from adatom.graph.periodic_systems import PeriodicSystems

#: Atoms closer than this (angstrom) are one point up to float rounding, and have no direction.
SAME_POINT = 1e-6


def select_edges(
    systems: PeriodicSystems,
    candidates: Candidates,
    cutoff: float,
    max_neighbors: int | None = None,
) -> Edges:
    """Keep the candidates within ``cutoff`` (angstrom), sort them, apply ``max_neighbors``."""
    return keep_within(
        systems, sort_candidates(candidates, systems.num_atoms), cutoff, max_neighbors
    )


def keep_within(
    systems: PeriodicSystems,
    candidates: Candidates,
    cutoff: float,
    max_neighbors: int | None = None,
) -> Edges:
    """Keep the candidates within ``cutoff`` (angstrom) without changing their order.

    Args:
        systems: Current positions and cells.
        candidates: Sorted as by :func:`sort_candidates`.
        cutoff: In angstrom.
        max_neighbors: See :func:`adatom.graph.max_neighbors.nearest_mask`.
    """
    square = squared_distances(systems, candidates)
    kept = (square <= cutoff * cutoff) & (square > SAME_POINT * SAME_POINT)
    rows = torch.nonzero(kept).flatten()
    source, target, offsets = (part.index_select(0, rows) for part in candidates)
    if max_neighbors is not None:
        near = nearest_mask(
            square.index_select(0, rows), target, systems.num_atoms, max_neighbors
        )
        if near is not None:
            source, target, offsets = source[near], target[near], offsets[near]
    if systems.num_systems == 1:
        counts = torch.tensor([len(target)], device=target.device)
    else:
        counts = torch.bincount(systems.batch[target], minlength=systems.num_systems)
    return Edges(torch.stack([source, target]), offsets, counts)


def squared_distances(systems: PeriodicSystems, candidates: Candidates) -> torch.Tensor:
    """Return ``|r_j - r_i + n @ cell|^2``, ``[P]`` float64, in square angstrom.

    Written out in single multiplications and additions, because a matrix product may round
    differently from one library, batch size or device to the next, and a pair at the very cutoff
    would then come and go. Both directions of a pair give the same number to the last bit.
    """
    source, target, offsets = candidates
    n = offsets.to(torch.float64)
    if systems.num_systems == 1:
        a, b, c = systems.cell[0]
    else:
        a, b, c = systems.cell[systems.batch[target]].unbind(1)
    shift = n[:, 0:1] * a + n[:, 1:2] * b + n[:, 2:3] * c
    vector = systems.pos.index_select(0, source) - systems.pos.index_select(0, target) + shift
    x, y, z = (vector * vector).unbind(1)
    return x + y + z


def sort_candidates(candidates: Candidates, num_atoms: int) -> Candidates:
    """Sort by target, then source, then offset (each axis in turn)."""
    source, target, offsets = candidates
    if len(source) == 0:
        return candidates
    low, high = torch.aminmax(offsets, dim=0)
    first, second, third = (high - low + 1).tolist()
    if num_atoms**2 * first * second * third < 2**62:
        n = offsets - low
        code = (n[:, 0] * second + n[:, 1]) * third + n[:, 2]
        images = first * second * third
    else:  # atoms many cells apart: number the offsets that occur instead of all between
        distinct, code = torch.unique(offsets, dim=0, return_inverse=True)
        images = len(distinct)
    order = torch.sort((target * num_atoms + source) * images + code).indices
    return Candidates(*(part.index_select(0, order) for part in candidates))
