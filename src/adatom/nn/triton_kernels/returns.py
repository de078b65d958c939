"""Gate, rotate back and sum over the edges into each atom; and the adjoint.

The second maps come after the sum (see :class:`adatom.nn.so2.SummedSO2Convolution`), so for each
order m the sums run over d conj(x), with d the rows +m and -m of a rotation times the envelope as
one complex number, and x the gated features of order m. A program holds the sums of one atom, one
order and one block of features; it goes through the atom's edges one after the other.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl

from adatom.nn.layout import CoefficientLayout
from adatom.nn.triton_kernels.blocks import count_of, power_of_two, sum_block


class SumLayout(NamedTuple):
    """Where the sums of a number of atoms lie in one array: for each degree ``[n, 2l + 1, K_l]``.

    Attributes:
        widths: K_l; for each order m <= min(l, mmax) the real and, if m >= 1, the imaginary parts.
        tables: ``[mmax + 1, 5, rows]`` int64 with the coefficients padded to a power of two. The
            first three make the place ``a * n + b * atom + c`` of a coefficient's sums; the others
            are the entries +m and -m in a rotation ``[R * S]`` (-1 where there is none).
        total: Numbers per atom.
    """

    widths: list[int]
    tables: torch.Tensor
    total: int

    def degrees(self, sums: torch.Tensor) -> list[torch.Tensor]:
        """Split sums of n atoms into degrees, each ``[n * (2l + 1), K_l]``."""
        atoms = sums.numel() // self.total
        sizes = [atoms * (2 * degree + 1) * width for degree, width in enumerate(self.widths)]
        pieces = torch.split(sums, sizes)
        return [piece.view(-1, width) for piece, width in zip(pieces, self.widths, strict=True)]


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def sum_layout(layout: CoefficientLayout, hidden: int, device: torch.device) -> SumLayout:
    """Return the layout of the sums for H hidden channels."""
    row_of = {pair: row for row, pair in enumerate(layout.edge_coefficients)}
    counts = [layout.degrees_of_order(m) * hidden for m in range(layout.mmax + 1)]
    parts = [count * (1 + min(m, 1)) for m, count in enumerate(counts)]
    widths = [sum(parts[: min(degree, layout.mmax) + 1]) for degree in range(layout.lmax + 1)]
    tables = torch.zeros(layout.mmax + 1, 5, power_of_two(layout.node_size), dtype=torch.int64)
    tables[:, 3:] = -1
    before = 0
    for degree, width in enumerate(widths):
        for column in range(degree**2, (degree + 1) ** 2):
            for m in range(min(degree, layout.mmax) + 1):
                inner = (column - degree**2) * width + sum(parts[:m])
                entries = [row_of[degree, sign] * layout.node_size + column for sign in (m, -m)]
                own = [before, (2 * degree + 1) * width, inner, *entries]
                tables[m, :, column] = torch.tensor(own)
        before += (2 * degree + 1) * width
    return SumLayout(widths, tables.to(device), before)


@triton.jit(do_not_specialize=["atoms"])
def _forward(
    mapped: tl.tensor,
    returns: tl.tensor,
    starts: tl.tensor,
    tables: tl.tensor,
    sums: tl.tensor,
    atoms: int,
    M: tl.constexpr,
    DEGREES: tl.constexpr,
    HIDDEN: tl.constexpr,
    LMAX: tl.constexpr,
    ROWS: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    atom = tl.program_id(0).to(tl.int64)
    BLOCKS: tl.constexpr = (HIDDEN + BLOCK - 1) // BLOCK
    number = tl.program_id(1) // BLOCKS
    channel = (tl.program_id(1) % BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < HIDDEN
    NODE: tl.constexpr = (LMAX + 1) * (LMAX + 1)
    ENTRIES: tl.constexpr = ROWS * NODE
    START: tl.constexpr = (M > 0) * ((2 * M - 1) * (LMAX + 1) - M * (M - 1))
    coefficient = tl.arange(0, PADDED)
    table = tables + M * 5 * PADDED + coefficient
    plus = tl.load(table + 3 * PADDED).to(tl.int32)
    minus = tl.load(table + 4 * PADDED).to(tl.int32)
    used = plus >= 0
    degree = M + number
    gate = tl.where(degree == 0, 0, degree - 1)
    real = tl.zeros([PADDED, BLOCK], dtype=sums.dtype.element_ty)
    imaginary = tl.zeros([PADDED, BLOCK], dtype=sums.dtype.element_ty)
    begin = tl.load(starts + atom)
    end = tl.load(starts + atom + 1)
    for k in range(begin, end):
        edge = tl.cast(k, tl.int64)
        own = mapped + edge * ((LMAX + ROWS) * HIDDEN) + channel
        row = own + (LMAX + START + number) * HIDDEN
        x = tl.load(row, mask=inside, other=0.0)
        g = tl.load(own + gate * HIDDEN, mask=inside, other=0.0)
        factor = tl.sigmoid(tl.where(degree == 0, x, g))
        x = x * factor
        d = tl.load(returns + edge * ENTRIES + plus, mask=used, other=0.0)
        real += d[:, None] * x[None, :]
        if M > 0:
            y = tl.load(row + DEGREES * HIDDEN, mask=inside, other=0.0) * factor
            b = tl.load(returns + edge * ENTRIES + minus, mask=used, other=0.0)
            real += b[:, None] * y[None, :]
            imaginary += b[:, None] * x[None, :] - d[:, None] * y[None, :]
    place = tl.load(table) * atoms + tl.load(table + PADDED) * atom + tl.load(table + 2 * PADDED)
    out = sums + place[:, None] + number * HIDDEN + channel[None, :]
    kept = used[:, None] & inside[None, :]
    tl.store(out, real, mask=kept)
    if M > 0:
        tl.store(out + DEGREES * HIDDEN, imaginary, mask=kept)


@triton.jit(do_not_specialize=["atoms", "edges"])
def _backward(
    mapped: tl.tensor,
    returns: tl.tensor,
    starts: tl.tensor,
    tables: tl.tensor,
    to_sums: tl.tensor,
    to_activated: tl.tensor,
    to_entries: tl.tensor,
    atoms: int,
    edges: int,
    M: tl.constexpr,
    DEGREES: tl.constexpr,
    HIDDEN: tl.constexpr,
    LMAX: tl.constexpr,
    ROWS: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    atom = tl.program_id(0).to(tl.int64)
    BLOCKS: tl.constexpr = (HIDDEN + BLOCK - 1) // BLOCK
    number = tl.program_id(1) // BLOCKS
    channel = (tl.program_id(1) % BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < HIDDEN
    NODE: tl.constexpr = (LMAX + 1) * (LMAX + 1)
    ENTRIES: tl.constexpr = ROWS * NODE
    START: tl.constexpr = (M > 0) * ((2 * M - 1) * (LMAX + 1) - M * (M - 1))
    coefficient = tl.arange(0, PADDED)
    table = tables + M * 5 * PADDED + coefficient
    plus = tl.load(table + 3 * PADDED).to(tl.int32)
    minus = tl.load(table + 4 * PADDED).to(tl.int32)
    used = plus >= 0
    degree = M + number
    gate = tl.where(degree == 0, 0, degree - 1)
    place = tl.load(table) * atoms + tl.load(table + PADDED) * atom + tl.load(table + 2 * PADDED)
    arriving = to_sums + place[:, None] + number * HIDDEN + channel[None, :]
    kept = used[:, None] & inside[None, :]
    real = tl.load(arriving, mask=kept, other=0.0)
    imaginary = real
    if M > 0:
        imaginary = tl.load(arriving + DEGREES * HIDDEN, mask=kept, other=0.0)
    begin = tl.load(starts + atom)
    end = tl.load(starts + atom + 1)
    for k in range(begin, end):
        edge = tl.cast(k, tl.int64)
        own = mapped + edge * ((LMAX + ROWS) * HIDDEN) + channel
        row = own + (LMAX + START + number) * HIDDEN
        x = tl.load(row, mask=inside, other=0.0)
        g = tl.load(own + gate * HIDDEN, mask=inside, other=0.0)
        factor = tl.sigmoid(tl.where(degree == 0, x, g))
        x = x * factor
        d = tl.load(returns + edge * ENTRIES + plus, mask=used, other=0.0)
        result = to_activated + (edge * ROWS + START + number) * HIDDEN + channel
        # The parts of the blocks are summed later, in a fixed order.
        part = to_entries + ((tl.program_id(1) * edges + edge) * (1 + (M > 0))) * NODE + coefficient
        if M > 0:
            y = tl.load(row + DEGREES * HIDDEN, mask=inside, other=0.0) * factor
            b = tl.load(returns + edge * ENTRIES + minus, mask=used, other=0.0)
            to_x = tl.sum(d[:, None] * real + b[:, None] * imaginary, axis=0)
            to_y = tl.sum(b[:, None] * real - d[:, None] * imaginary, axis=0)
            to_d = tl.sum(real * x[None, :] - imaginary * y[None, :], axis=1)
            to_b = tl.sum(real * y[None, :] + imaginary * x[None, :], axis=1)
            tl.store(result + DEGREES * HIDDEN, to_y, mask=inside)
            tl.store(part + NODE, to_b, mask=coefficient < NODE)
        else:
            to_x = tl.sum(d[:, None] * real, axis=0)
            to_d = tl.sum(real * x[None, :], axis=1)
        tl.store(result, to_x, mask=inside)
        tl.store(part, to_d, mask=coefficient < NODE)


def return_sums(
    layout: CoefficientLayout,
    hidden: int,
    mapped: torch.Tensor,
    returns: torch.Tensor,
    starts: torch.Tensor,
) -> torch.Tensor:
    """Gate edge features and sum them with the entries of the rotations as weights.

    Args:
        layout: Degrees and orders.
        hidden: H.
        mapped: ``[n, (lmax + R) H]``; gates before the sigmoid, then edge rows (m-major).
        returns: ``[n, R, S]`` rotations times the envelope.
        starts: ``[atoms + 1]`` int64; first edge of each atom.

    Returns:
        One array of ``atoms * total`` numbers; see :class:`SumLayout`.
    """
    where = sum_layout(layout, hidden, mapped.device)
    atoms = starts.shape[0] - 1
    sums = mapped.new_empty(atoms * where.total)
    for m in range(layout.mmax + 1):
        blocks, sizes = _launch(layout, hidden, m)
        if atoms:
            _forward[(atoms, blocks)](
                mapped, returns, starts, where.tables, sums, atoms, M=m, **sizes
            )
    return sums


def return_backward(
    layout: CoefficientLayout,
    hidden: int,
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    to_sums: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the adjoint of :func:`return_sums`, up to that of the gates.

    Args:
        layout: Degrees and orders.
        hidden: H.
        inputs: ``mapped``, ``returns`` and ``starts`` of :func:`return_sums`.
        to_sums: Gradient of its result.

    Returns:
        Gradients of the gated features ``[n, R, H]`` and of ``returns`` ``[n, R, S]``.
    """
    mapped, returns, starts = inputs
    where = sum_layout(layout, hidden, mapped.device)
    edges, atoms = mapped.shape[0], starts.shape[0] - 1
    to_activated = mapped.new_empty(edges, layout.edge_size, hidden)
    to_returns = torch.zeros_like(returns)
    for m in range(layout.mmax + 1):
        blocks, sizes = _launch(layout, hidden, m)
        signs = 1 + min(m, 1)
        parts = mapped.new_empty(blocks, edges, signs, layout.node_size)
        if not edges:
            continue
        _backward[(atoms, blocks)](
            *inputs, where.tables, to_sums, to_activated, parts, atoms, edges, M=m, **sizes
        )
        total = parts.sum(0)[:, :, m * m :]
        entries = where.tables[m, 3 : 3 + signs, m * m : layout.node_size]
        to_returns.flatten(1).index_copy_(1, entries.flatten(), total.flatten(1))
    return to_activated, to_returns


def _launch(layout: CoefficientLayout, hidden: int, m: int) -> tuple[int, dict[str, int]]:
    """Return the blocks of features and the constants of both kernels."""
    degrees = layout.degrees_of_order(m)
    block = sum_block(layout.node_size, hidden)
    sizes = {
        "DEGREES": degrees,
        "HIDDEN": hidden,
        "LMAX": layout.lmax,
        "ROWS": layout.edge_size,
        "PADDED": power_of_two(layout.node_size),
        "BLOCK": block,
    }
    return degrees * count_of(hidden, block), sizes
