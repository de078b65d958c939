"""Gather both atoms of each edge, rotate, multiply by radial weights; and the adjoint.

Coefficients are unrolled, so that a program holds single rows of channels in registers; a row that
is needed again comes from the cache of its processor.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl

from adatom.nn.layout import CoefficientLayout
from adatom.nn.triton_kernels.blocks import count_of, edge_blocks
from adatom.nn.wigner import _generators

#: Below this an entry of a generator is zero.
_SMALL = 1e-6


@triton.jit(do_not_specialize=["edges"])
def _forward(
    features: tl.tensor,
    ends: tl.tensor,
    rotations: tl.tensor,
    weights: tl.tensor,
    out: tl.tensor,
    edges: int,
    CHANNELS: tl.constexpr,
    LMAX: tl.constexpr,
    MMAX: tl.constexpr,
    ROWS: tl.constexpr,
    WEIGHTS: tl.constexpr,
    EDGES: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    edge = (tl.program_id(0) * EDGES + tl.arange(0, EDGES)).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    end = tl.program_id(2)
    live = edge < edges
    inside = live[:, None] & (channel < CHANNELS)[None, :]
    NODE: tl.constexpr = (LMAX + 1) * (LMAX + 1)
    atom = tl.load(ends + end * edges + edge, mask=live, other=0)
    feature = features + atom[:, None] * (NODE * CHANNELS) + channel[None, :]
    column = end * CHANNELS + channel[None, :]
    weight = weights + edge[:, None] * WEIGHTS + column
    result = out + edge[:, None] * (ROWS * 2 * CHANNELS) + column
    for m in tl.static_range(MMAX + 1):
        for degree in tl.static_range(m, LMAX + 1):
            first = 2 * m * (LMAX + 1) - m * (m - 1) + 2 * (degree - m)
            factor = tl.load(weight + first * CHANNELS, mask=inside, other=0.0)
            for sign in tl.static_range(1 + (m > 0)):
                start = (m > 0) * ((2 * m - 1) * (LMAX + 1) - m * (m - 1))
                row = start + sign * (LMAX + 1 - m) + degree - m
                total = tl.zeros([EDGES, BLOCK], dtype=features.dtype.element_ty)
                for k in tl.static_range(2 * degree + 1):
                    entry = rotations + edge * (ROWS * NODE) + row * NODE + degree * degree + k
                    turn = tl.load(entry, mask=live, other=0.0)
                    x = tl.load(feature + (degree * degree + k) * CHANNELS, mask=inside, other=0.0)
                    total += turn[:, None] * x
                tl.store(result + row * 2 * CHANNELS, total * factor, mask=inside)


@triton.jit
def _torques(
    turned: tl.tensor,
    resting: tl.tensor,
    inside: tl.tensor,
    pairs: tl.tensor,
    generators: tl.tensor,
    stride: tl.constexpr,
    PAIRS: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Return -sum over rows i, k of one degree of (D^T g)_i (K_a)_ik x_k for the axes a."""
    x = tl.zeros(inside.shape, dtype=turned.dtype.element_ty)
    y = tl.zeros(inside.shape, dtype=turned.dtype.element_ty)
    z = tl.zeros(inside.shape, dtype=turned.dtype.element_ty)
    for pair in range(PAIRS):
        row = tl.load(pairs + 2 * pair) * stride
        column = tl.load(pairs + 2 * pair + 1) * stride
        product = tl.load(turned + row, mask=inside, other=0.0)
        product *= tl.load(resting + column, mask=inside, other=0.0)
        x -= product * tl.load(generators + 3 * pair)
        y -= product * tl.load(generators + 3 * pair + 1)
        z -= product * tl.load(generators + 3 * pair + 2)
    return tl.sum(x, axis=1), tl.sum(y, axis=1), tl.sum(z, axis=1)


@triton.jit(do_not_specialize=["edges"])
def _backward(
    features: tl.tensor,
    ends: tl.tensor,
    rotations: tl.tensor,
    weights: tl.tensor,
    pairs: tl.tensor,
    generators: tl.tensor,
    to_out: tl.tensor,
    to_weights: tl.tensor,
    to_ends: tl.tensor,
    torques: tl.tensor,
    edges: int,
    CHANNELS: tl.constexpr,
    LMAX: tl.constexpr,
    MMAX: tl.constexpr,
    ROWS: tl.constexpr,
    WEIGHTS: tl.constexpr,
    PAIRS: tl.constexpr,
    EDGES: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    edge = (tl.program_id(0) * EDGES + tl.arange(0, EDGES)).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    end = tl.program_id(2)
    live = edge < edges
    inside = live[:, None] & (channel < CHANNELS)[None, :]
    NODE: tl.constexpr = (LMAX + 1) * (LMAX + 1)
    atom = tl.load(ends + end * edges + edge, mask=live, other=0)
    feature = features + atom[:, None] * (NODE * CHANNELS) + channel[None, :]
    column = end * CHANNELS + channel[None, :]
    weight = edge[:, None] * WEIGHTS + column
    arriving = to_out + edge[:, None] * (ROWS * 2 * CHANNELS) + column
    result = to_ends + (end * edges + edge)[:, None] * (NODE * CHANNELS) + channel[None, :]
    turns = rotations + edge * (ROWS * NODE)
    for m in tl.static_range(MMAX + 1):
        for degree in tl.static_range(m, LMAX + 1):
            slope = tl.zeros([EDGES, BLOCK], dtype=features.dtype.element_ty)
            for sign in tl.static_range(1 + (m > 0)):
                start = (m > 0) * ((2 * m - 1) * (LMAX + 1) - m * (m - 1))
                row = start + sign * (LMAX + 1 - m) + degree - m
                total = tl.zeros([EDGES, BLOCK], dtype=features.dtype.element_ty)
                for k in tl.static_range(2 * degree + 1):
                    turn = tl.load(turns + row * NODE + degree * degree + k, mask=live, other=0.0)
                    value = tl.load(
                        feature + (degree * degree + k) * CHANNELS, mask=inside, other=0.0
                    )
                    total += turn[:, None] * value
                slope += total * tl.load(arriving + row * 2 * CHANNELS, mask=inside, other=0.0)
            first = 2 * m * (LMAX + 1) - m * (m - 1) + 2 * (degree - m)
            tl.store(to_weights + weight + first * CHANNELS, slope, mask=inside)
    for degree in tl.static_range(LMAX + 1):
        for i in tl.static_range(2 * degree + 1):
            back = tl.zeros([EDGES, BLOCK], dtype=features.dtype.element_ty)
            for m in tl.static_range(MMAX + 1):
                if m <= degree:
                    first = 2 * m * (LMAX + 1) - m * (m - 1) + 2 * (degree - m)
                    factor = tl.load(weights + weight + first * CHANNELS, mask=inside, other=0.0)
                    for sign in tl.static_range(1 + (m > 0)):
                        start = (m > 0) * ((2 * m - 1) * (LMAX + 1) - m * (m - 1))
                        row = start + sign * (LMAX + 1 - m) + degree - m
                        turn = tl.load(
                            turns + row * NODE + degree * degree + i, mask=live, other=0.0
                        )
                        g = tl.load(arriving + row * 2 * CHANNELS, mask=inside, other=0.0)
                        back += turn[:, None] * g * factor
            tl.store(result + (degree * degree + i) * CHANNELS, back, mask=inside)
    # Threads read what others have stored.
    tl.debug_barrier()
    x, y, z = _torques(result, feature, inside, pairs, generators, CHANNELS, PAIRS)
    place = torques + ((tl.num_programs(1) * end + tl.program_id(1)) * edges + edge) * 3
    tl.store(place, x, mask=live)
    tl.store(place + 1, y, mask=live)
    tl.store(place + 2, z, mask=live)


def rotate(
    layout: CoefficientLayout,
    features: torch.Tensor,
    ends: torch.Tensor,
    rotations: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Return the inputs of the first maps, ``[n, R, 2 C]``.

    Args:
        layout: Degrees and orders.
        features: ``[N, S, C]`` of all atoms.
        ends: ``[2, n]`` int64; source and target of each edge.
        rotations: ``[n, R, S]``; see :func:`adatom.nn.wigner.edge_rotations`.
        weights: ``[n, weights]`` over (order, degree, source or target, channel).
    """
    channels = features.shape[2]
    out = features.new_empty(ends.shape[1], layout.edge_size, 2 * channels)
    grid, sizes = _launch(layout, features, ends, weights)
    if ends.shape[1]:
        _forward[grid](features, ends, rotations, weights, out, ends.shape[1], **sizes)
    return out


def rotate_backward(
    layout: CoefficientLayout,
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    to_out: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the adjoint of :func:`rotate`.

    Args:
        layout: Degrees and orders.
        inputs: The arguments of :func:`rotate` after ``layout``.
        to_out: ``[n, R, 2 C]``.

    Returns:
        Gradients of the weights ``[n, weights]`` and of the features at source and target
        ``[2, n, S, C]``, and the torque on each edge ``[n, 3]``.
    """
    features, ends, _, weights = inputs
    edges = ends.shape[1]
    grid, sizes = _launch(layout, features, ends, weights)
    pairs, generators = _turns(layout.lmax, features.dtype, features.device)
    to_weights = torch.empty_like(weights)
    to_ends = features.new_empty(2, edges, layout.node_size, features.shape[2])
    torques = features.new_empty(grid[1] * grid[2], edges, 3)
    if edges:
        outputs = (to_weights, to_ends, torques)
        _backward[grid](
            *inputs, pairs, generators, to_out, *outputs, edges, PAIRS=pairs.shape[0], **sizes
        )
    return to_weights, to_ends, torques.sum(0)


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def _turns(
    lmax: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows and columns ``[pairs, 2]`` where a generator is not zero, and the values."""
    size = (lmax + 1) ** 2
    values = _generators(lmax, torch.float64, torch.device("cpu"))
    # They come from a quadrature; the entries that are not zero are at least 1/2.
    used = (values.abs() > _SMALL).any(1).nonzero().squeeze(1)
    pairs = torch.stack([used // size, used % size], dim=1).to(torch.int32)
    return pairs.to(device), values[used].to(dtype=dtype, device=device)


def _launch(
    layout: CoefficientLayout, features: torch.Tensor, ends: torch.Tensor, weights: torch.Tensor
) -> tuple[tuple[int, int, int], dict[str, int]]:
    """Return the grid and the constants of both kernels."""
    channels = features.shape[2]
    block_edges, block = edge_blocks(channels)
    sizes = {
        "CHANNELS": channels,
        "LMAX": layout.lmax,
        "MMAX": layout.mmax,
        "ROWS": layout.edge_size,
        "WEIGHTS": weights.shape[1],
        "EDGES": block_edges,
        "BLOCK": block,
    }
    return (count_of(ends.shape[1], block_edges), count_of(channels, block), 2), sizes
