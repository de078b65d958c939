"""Pairs that may be edges: what a backend returns, and the same in order."""

from __future__ import annotations

from typing import NamedTuple

import torch

#: Backends search this much farther than the cutoff (angstrom), so that no edge is lost to the
#: rounding of their own arithmetic; the exact rule is applied afterwards, once for all backends.
SEARCH_MARGIN = 1e-6
#: Sort keys stay below this, far from the end of int64.
_LARGEST_KEY = 2**61


class Candidates(NamedTuple):
    """Directed pairs in any order: every edge once, and possibly pairs that are too long.

    Attributes:
        source: ``[P]`` int64; atom j, numbered through the batch.
        target: ``[P]`` int64; atom i.
        offsets: ``[P, 3]`` int64; image n of ``r_j - r_i + n @ cell``.
    """

    source: torch.Tensor
    target: torch.Tensor
    offsets: torch.Tensor


class SortedCandidates(NamedTuple):
    """Candidates sorted by target, then source, then offset (each axis in turn).

    Attributes:
        source: ``[P]`` int64; atom j.
        target: ``[P]`` int64; atom i.
        offsets: ``[P, 3]`` int64; image n.
        images: ``[P]`` float64 each; the offsets by axis, or None where all of them are zero.
    """

    source: torch.Tensor
    target: torch.Tensor
    offsets: torch.Tensor
    images: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None


def sort_candidates(candidates: Candidates, num_atoms: int) -> SortedCandidates:
    """Bring the pairs of a batch of ``num_atoms`` atoms into their one order."""
    source, target, offsets = candidates
    if len(source) == 0:
        return SortedCandidates(source, target, offsets, None)
    low, high = torch.aminmax(offsets, dim=0)
    first, second, third = (high - low + 1).tolist()
    key = target * num_atoms + source
    if num_atoms**2 * first * second * third < _LARGEST_KEY:
        if first * second * third > 1:
            a, b, c = offsets.unbind(1)
            key = ((key * first + a) * second + b) * third + c
    else:  # atoms many cells apart: number the offsets that occur instead of all between
        distinct, number = torch.unique(offsets, dim=0, return_inverse=True)
        key = key * len(distinct) + number
    order = torch.sort(key).indices
    return with_images(
        source.index_select(0, order), target.index_select(0, order), offsets.index_select(0, order)
    )


def with_images(
    source: torch.Tensor, target: torch.Tensor, offsets: torch.Tensor
) -> SortedCandidates:
    """Complete pairs that are in order already with their ``images``."""
    images = None
    if bool(offsets.any()):
        a, b, c = offsets.unbind(1)
        images = (a.to(torch.float64), b.to(torch.float64), c.to(torch.float64))
    return SortedCandidates(source, target, offsets, images)
