"""Sums over groups of rows."""

from __future__ import annotations

from collections.abc import Callable

import torch


def segment_sum(rows: torch.Tensor, index: torch.Tensor, count: int) -> torch.Tensor:
    """Sum rows that share an index.

    Args:
        rows: ``[E, ...]``.
        index: ``[E]`` int64, below ``count``.
        count: Number of sums.

    Returns:
        ``[count, ...]``; zero where no row has the index.
    """
    return rows.new_zeros((count, *rows.shape[1:])).index_add(0, index, rows)


def balance_channels(
    features: torch.Tensor,
    channels: slice,
    totals: torch.Tensor,
    batch: torch.Tensor,
    natoms: torch.Tensor,
    total: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Shift invariant channels so that they sum to a given total in each system.

    Args:
        features: ``[N, S, C]``; only row 0 changes. The input is not modified.
        channels: Which channels.
        totals: ``[B]`` wanted sum over the atoms of each system.
        batch: ``[N]`` system of each atom.
        natoms: ``[B]``.
        total: From sums over the atoms here to those over all, where others are elsewhere.

    Returns:
        ``[N, S, C]``.
    """
    part = features[:, 0, channels]
    sums = segment_sum(part, batch, len(natoms))
    sums = sums if total is None else total(sums)
    excess = sums - totals.to(part.dtype).unsqueeze(1)
    share = excess / natoms.to(part.dtype).unsqueeze(1)
    balanced = features.clone()
    balanced[:, 0, channels] = part - share[batch]
    return balanced
