"""Sums over consecutive rows, always in the same order."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from adatom.nn.triton_kernels.blocks import count_of, power_of_two


@triton.jit
def _sum(
    rows: tl.tensor,
    order: tl.tensor,
    starts: tl.tensor,
    nodes: tl.tensor,
    out: tl.tensor,
    stride: int,
    WIDTH: tl.constexpr,
    ADD: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    segment = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    begin = tl.load(starts + segment)
    end = tl.load(starts + segment + 1)
    inside = column < WIDTH
    total = tl.zeros([BLOCK], dtype=out.dtype.element_ty)
    for k in range(begin, end):
        row = tl.load(order + k).to(tl.int64)
        total += tl.load(rows + row * stride + column, mask=inside, other=0.0)
    place = out + tl.load(nodes + segment).to(tl.int64) * WIDTH + column
    if ADD:
        inside = inside & (end > begin)
        total += tl.load(place, mask=inside, other=0.0)
    tl.store(place, total, mask=inside)


def segment_sums(
    rows: torch.Tensor,
    order: torch.Tensor,
    starts: torch.Tensor,
    nodes: torch.Tensor,
    out: torch.Tensor,
    *,
    add: bool,
) -> None:
    """Sum rows over segments into rows of ``out``.

    Args:
        rows: ``[n, width]``; columns must be next to each other in memory.
        order: ``[n]`` int64; the row at each place.
        starts: ``[segments + 1]`` int64; first place of each segment.
        nodes: ``[segments]`` int64; the row of ``out`` of each segment, no two the same.
        out: ``[N, width]``, contiguous.
        add: Add to ``out``, whose rows without a segment or with an empty one stay; if false, rows
            of empty segments become zero.
    """
    width = out.shape[1]
    block = min(power_of_two(width), 512)
    grid = (nodes.shape[0], count_of(width, block))
    if nodes.shape[0]:
        _sum[grid](
            rows, order, starts, nodes, out, rows.stride(0), WIDTH=width, ADD=add, BLOCK=block
        )
