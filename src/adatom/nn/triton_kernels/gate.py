"""The adjoint of the gates."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from adatom.nn.layout import CoefficientLayout
from adatom.nn.triton_kernels.blocks import count_of, edge_blocks


@triton.jit(do_not_specialize=["edges"])
def _backward(
    mapped: tl.tensor,
    to_activated: tl.tensor,
    to_mapped: tl.tensor,
    edges: int,
    HIDDEN: tl.constexpr,
    LMAX: tl.constexpr,
    MMAX: tl.constexpr,
    ROWS: tl.constexpr,
    EDGES: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    edge = (tl.program_id(0) * EDGES + tl.arange(0, EDGES)).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = (edge < edges)[:, None] & (channel < HIDDEN)[None, :]
    own = edge[:, None] * ((LMAX + ROWS) * HIDDEN) + channel[None, :]
    arriving = to_activated + edge[:, None] * (ROWS * HIDDEN) + channel[None, :]
    value = tl.load(mapped + own + LMAX * HIDDEN, mask=inside, other=0.0)
    gradient = tl.load(arriving, mask=inside, other=0.0)
    factor = tl.sigmoid(value)
    slope = factor * (1 + value * (1 - factor))
    tl.store(to_mapped + own + LMAX * HIDDEN, gradient * slope, mask=inside)
    for degree in tl.static_range(1, LMAX + 1):
        gate = own + (degree - 1) * HIDDEN
        factor = tl.sigmoid(tl.load(mapped + gate, mask=inside, other=0.0))
        total = tl.zeros([EDGES, BLOCK], dtype=mapped.dtype.element_ty)
        for m in tl.static_range(MMAX + 1):
            if m <= degree:
                for sign in tl.static_range(1 + (m > 0)):
                    start = (m > 0) * ((2 * m - 1) * (LMAX + 1) - m * (m - 1))
                    row = start + sign * (LMAX + 1 - m) + degree - m
                    place = own + (LMAX + row) * HIDDEN
                    value = tl.load(mapped + place, mask=inside, other=0.0)
                    gradient = tl.load(arriving + row * HIDDEN, mask=inside, other=0.0)
                    tl.store(to_mapped + place, gradient * factor, mask=inside)
                    total += gradient * value
        tl.store(to_mapped + gate, total * factor * (1 - factor), mask=inside)


def gate_backward(
    layout: CoefficientLayout, mapped: torch.Tensor, to_activated: torch.Tensor
) -> torch.Tensor:
    """Return the gradient of the outputs of the maps, ``[n, (lmax + R) H]``.

    Args:
        layout: Degrees and orders.
        mapped: ``[n, (lmax + R) H]``; gates, then edge rows.
        to_activated: ``[n, R, H]`` gradient of what the gates let through.
    """
    edges, rows, hidden = to_activated.shape
    out = torch.empty_like(mapped)
    block_edges, block = edge_blocks(hidden)
    if edges:
        _backward[(count_of(edges, block_edges), count_of(hidden, block))](
            mapped,
            to_activated,
            out,
            edges,
            HIDDEN=hidden,
            LMAX=layout.lmax,
            MMAX=layout.mmax,
            ROWS=rows,
            EDGES=block_edges,
            BLOCK=block,
        )
    return out
