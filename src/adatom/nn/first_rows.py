"""The first rows of a tensor."""

from __future__ import annotations

import torch


def first_rows(rows: torch.Tensor, count: int) -> torch.Tensor:
    """Return a copy of the first rows ``[count, ...]`` of ``[N, ...]``.

    Not a slice: ahead of time, that cannot be compiled for a number which is computed.
    """
    return rows.index_select(0, torch.arange(count, device=rows.device))
