"""Neighborhoods of similar size side by side in one table."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from adatom.core.traced_input import traced_input

#: The largest neighborhood of a table over its smallest; or this many more points.
_RATIO = 1.25
_MORE = 2


def neighbor_clouds(
    target: torch.Tensor, num_atoms: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Group atoms by their number of neighbors, each group with one table of points.

    The points of an atom are the edges into it and itself. A table is as wide as the largest cloud
    of its group, and what is left over in the others is padding.

    Args:
        target: ``[E]`` int64, non-decreasing; where the edges end.
        num_atoms: N.

    Yields:
        ``atoms [C]``, increasing, and ``points [C, n]``, both int64; edge e is point e, atom a
        itself is point ``E + a``, and padding is point ``E + N``. Every atom is in one group.
    """
    edges = target.shape[0]
    counts = target.new_zeros(num_atoms).index_add(0, target, torch.ones_like(target))
    starts = counts.cumsum(0) - counts
    for least, most in _groups(counts):
        atoms = ((counts >= least) & (counts <= most)).nonzero().squeeze(1)
        count = counts.index_select(0, atoms).unsqueeze(1)
        place = torch.arange(most + 1, device=target.device)
        points = starts.index_select(0, atoms).unsqueeze(1) + place
        points = torch.where(place == count, edges + atoms.unsqueeze(1), points)
        yield atoms, torch.where(place > count, edges + num_atoms, points)


def _groups(counts: torch.Tensor) -> list[tuple[int, int]]:
    """Return the least and the most neighbors in each group."""
    if traced_input() is not None:
        # A program has a fixed number of groups: atoms without neighbors, and all others.
        most: int = counts.max().item()  # type: ignore[assignment]
        return [(0, 0), (1, most)]
    groups: list[tuple[int, int]] = []
    for count in sorted(set(counts.tolist())):
        if groups and count <= max(groups[-1][0] + _MORE, groups[-1][0] * _RATIO):
            groups[-1] = (groups[-1][0], count)
        else:
            groups.append((count, count))
    return groups
