"""The limit on the number of neighbors."""

from __future__ import annotations

import torch

#: Neighbors whose squared distance exceeds the limiting one by no more than this (square
#: angstrom) count as degenerate with it and stay, so that symmetric shells are not cut.
DEGENERACY = 0.01


def nearest_mask(
    squared_distances: torch.Tensor, target: torch.Tensor, num_atoms: int, limit: int
) -> torch.Tensor | None:
    """Select about ``limit`` nearest sources of each target.

    A target with more than ``limit`` sources keeps those with ``d^2 <= d^2_(limit+1) + 0.01``
    square angstrom, where ``d^2_(limit+1)`` is the (limit + 1)-th smallest: the rule of the
    published UMA potentials. At least ``limit + 1`` remain.

    Args:
        squared_distances: ``[E]`` in square angstrom.
        target: ``[E]`` int64, non-decreasing.
        num_atoms: Number of atoms N.
        limit: The number of neighbors above which targets are cut.

    Returns:
        ``[E]`` bool, True where an edge stays; None if no target has more than ``limit``.
    """
    counts = torch.bincount(target, minlength=num_atoms)
    crowded = counts > limit
    if not bool(crowded.any()):
        return None
    by_distance = torch.argsort(squared_distances, stable=True)
    order = by_distance[torch.argsort(target[by_distance], stable=True)]
    starts = torch.cumsum(counts, 0) - counts
    threshold = squared_distances.new_full((num_atoms,), torch.inf)
    threshold[crowded] = squared_distances[order[starts[crowded] + limit]] + DEGENERACY
    return squared_distances <= threshold[target]
