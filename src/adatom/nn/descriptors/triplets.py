"""Pairs of edges that end at the same atom."""

from __future__ import annotations

from typing import cast

import torch


def pairs_of_edges(target: torch.Tensor, num_atoms: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each unordered pair of different edges into an atom once.

    Args:
        target: ``[E]`` int64, non-decreasing; where the edges end.
        num_atoms: N.

    Returns:
        Both edges of each pair ``[T]`` int64; the first is before the second, and pairs are in the
        order of the first edges.
    """
    ones = torch.ones_like(target)
    counts = target.new_zeros(num_atoms).index_add(0, target, ones)
    ends = counts.cumsum(0)
    later = ends.index_select(0, target) - ones.cumsum(0)
    # A trace keeps this number free as long as it is no int.
    total = cast("int", later.sum().item())
    first = torch.repeat_interleave(later, output_size=total)
    before = later.cumsum(0) - later
    place = torch.arange(total, device=target.device) - before.index_select(0, first)
    return first, first + 1 + place
