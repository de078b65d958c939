"""Rotation of spherical coefficients into the frame of each edge, and its derivatives.

Each edge direction u gets the rotation R with R u = +y whose gauge angle is 0: the shortest
rotation while u_y is above a limit, and the shortest one after a half turn about x below it. Both
charts are smooth where they are used, so nothing is singular for any direction. (No choice of
frame is continuous over the whole sphere; the limit lies away from directions that crystals and
planar molecules have, and invariant models do not notice it.)

Row m of D^l follows from row m of D^(l-1) and the direction u alone (|m| < l), because
multiplication by the polar coordinate conserves m; only m = +-l needs the other two frame axes.
Orders above ``mmax`` are therefore never computed. Derivatives use the generators K_a of
rotations, dD = -D (dtheta . K), so that the backward pass is one contraction per edge to a torque
and can itself be differentiated.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from adatom.nn.harmonics import spherical_harmonics
from adatom.nn.layout import CoefficientLayout
from adatom.nn.sphere_quadrature import sphere_grid

#: Below this u_y the second chart is used.
_CHART_LIMIT = -0.64


def edge_rotations(directions: torch.Tensor, layout: CoefficientLayout) -> torch.Tensor:
    """Return the matrices that rotate node coefficients into the edge frames.

    Args:
        directions: ``[E, 3]`` unit vectors.
        layout: Degrees, and the orders that are kept.

    Returns:
        ``[E, R, S]``: m-major edge rows times l-major node columns, block-sparse in l. The inverse
        rotation is the transpose. Twice differentiable and more, for every direction.
    """
    return _EdgeRotation.apply(directions, layout)  # type: ignore[no-untyped-call, no-any-return]


def edge_frames(directions: torch.Tensor) -> torch.Tensor:
    """Return the rotations ``[E, 3, 3]`` with ``R @ u = (0, 1, 0)``; rows are the frame's axes."""
    x, y, z = directions.unbind(-1)
    side = torch.where(y >= _CHART_LIMIT, 1.0, -1.0).to(y.dtype)
    a = 1 / (1 + side * y)
    ax, az = a * x, a * z
    rows = [1 - ax * x, -side * x, -ax * z, x, y, z, -side * ax * z, -z, side * (1 - az * z)]
    return torch.stack(rows, dim=-1).view(*directions.shape, 3)


class _EdgeRotation(torch.autograd.Function):
    """The matrices of :func:`edge_rotations` with their torque-based derivative."""

    @staticmethod
    def forward(ctx: Any, directions: torch.Tensor, layout: CoefficientLayout) -> torch.Tensor:
        with _full_precision(directions):
            rotations = _assemble(edge_frames(directions), layout)
        ctx.save_for_backward(directions, rotations)
        ctx.lmax = layout.lmax
        return rotations

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        directions, rotations = ctx.saved_tensors
        with _full_precision(directions):
            return direction_gradient(directions, rotations, gradients[0], ctx.lmax), None


def _full_precision(like: torch.Tensor) -> AbstractContextManager[Any]:
    """Return a scope without autocast: geometry stays as exact as positions are."""
    device = like.device.type
    cast = torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if cast else nullcontext()


def direction_gradient(
    directions: torch.Tensor, rotations: torch.Tensor, gradient: torch.Tensor, lmax: int
) -> torch.Tensor:
    """Return the gradient ``[E, 3]`` of the directions from that of :func:`edge_rotations`.

    Args:
        directions: ``[E, 3]`` unit vectors.
        rotations: ``[E, R, S]``.
        gradient: ``[E, R, S]``.
        lmax: Highest degree.
    """
    generators = _generators(lmax, rotations.dtype, rotations.device)
    # <G, D K_a> = sum_kk' (D^T G)_kk' (K_a)_kk'
    inner = torch.bmm(rotations.transpose(1, 2), gradient).flatten(1)
    torque = -(inner @ generators)
    along = (torque * directions).sum(1, keepdim=True)
    across: torch.Tensor = torch.linalg.cross(torque, directions)
    return across + along * _connection(directions)


def _connection(directions: torch.Tensor) -> torch.Tensor:
    """Return A with (rotation of the frame about u) = A . du, for the gauge used here."""
    x, y, z = directions.unbind(-1)
    side = torch.where(y >= _CHART_LIMIT, 1.0, -1.0).to(y.dtype)
    a = side / (1 + side * y)
    return torch.stack([-a * z, torch.zeros_like(y), a * x], dim=-1)


def _assemble(frames: torch.Tensor, layout: CoefficientLayout) -> torch.Tensor:
    """Compute D by recursion over l and place its blocks in the m-major matrix."""
    tables = _tables(layout.lmax, frames.dtype, frames.device)
    edges = frames.shape[0]
    out = frames.new_zeros(edges, layout.edge_size, layout.node_size)
    places = _edge_places(layout, frames.device)
    previous = frames.new_ones(edges, 1, 1)
    for degree in range(layout.lmax + 1):
        if degree == 1:
            kept = min(1, layout.mmax)
            previous = frames[:, 1 - kept : 2 + kept]
        elif degree > 1:
            previous = _next_degree(previous, frames, tables[degree], layout.mmax)
        columns = slice(degree**2, (degree + 1) ** 2)
        out[:, :, columns].index_copy_(1, places[degree], previous)
    return out


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def _edge_places(layout: CoefficientLayout, device: torch.device) -> list[torch.Tensor]:
    """Return for each degree the edge rows of its orders, ``[2 min(l, mmax) + 1]`` int64.

    On the device, so that no call has to wait for a copy.
    """
    place = {pair: row for row, pair in enumerate(layout.edge_coefficients)}
    places = []
    for degree in range(layout.lmax + 1):
        half = min(degree, layout.mmax)
        rows = [place[degree, m] for m in range(-half, half + 1)]
        places.append(torch.tensor(rows, device=device))
    return places


def _next_degree(
    previous: torch.Tensor, frames: torch.Tensor, table: _DegreeTable, mmax: int
) -> torch.Tensor:
    """Return rows ``|m| <= min(l, mmax)`` of D^l ``[E, rows, 2l + 1]`` from those of D^(l-1)."""
    polar = previous.unsqueeze(3) * frames[:, None, None, 1]
    half = (previous.shape[1] - 1) // 2
    center = (table.polar_scale.shape[0] - 1) // 2
    scale = table.polar_scale[center - half : center + half + 1]
    rows = (polar.flatten(2) @ table.coupling) * scale[:, None]
    if table.degree > mmax:
        return rows
    negative, positive = previous[:, 0].unsqueeze(2), previous[:, -1].unsqueeze(2)
    x, z = frames[:, None, 0], frames[:, None, 2]
    edge = torch.stack([positive * x + negative * z, positive * z - negative * x], dim=1)
    outer = (edge.flatten(2) @ table.coupling) * table.edge_scale
    return torch.cat([outer[:, :1], rows, outer[:, 1:]], dim=1)


@dataclass(frozen=True)
class _DegreeTable:
    """How Y^(l-1) times Y^1 contains Y^l.

    Attributes:
        degree: l.
        coupling: ``[(2l - 1) * 3, 2l + 1]`` projection of the product onto degree l.
        polar_scale: ``[2l - 1]`` factor of row m = -(l-1)..l-1 of the product with y.
        edge_scale: Factor of the rows m = +-l.
    """

    degree: int
    coupling: torch.Tensor
    polar_scale: torch.Tensor
    edge_scale: float


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def _tables(lmax: int, dtype: torch.dtype, device: torch.device) -> dict[int, _DegreeTable]:
    points, weights = sphere_grid(2 * lmax + 2, 2 * lmax + 2)
    weights = weights.flatten()
    values = spherical_harmonics(points.flatten(0, 1), lmax, normalization="component")
    tables = {}
    for degree in range(2, lmax + 1):
        lower = values[:, (degree - 1) ** 2 : degree**2]
        this = values[:, degree**2 : (degree + 1) ** 2]
        first = values[:, 1:4]
        coupling = torch.einsum("p,pk,pi,pm->kim", weights, lower, first, this)
        inner = torch.arange(2 * degree - 1)
        polar_scale = 1 / coupling[inner, 1, inner + 1]
        edge_scale = 1 / (coupling[-1, 2, -1] - coupling[0, 0, -1])
        tables[degree] = _DegreeTable(
            degree,
            coupling.flatten(0, 1).to(dtype=dtype, device=device),
            polar_scale.to(dtype=dtype, device=device),
            float(edge_scale),
        )
    return tables


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def _generators(lmax: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return K_a flattened to ``[S * S, 3]``: Y(p + dtheta x p) = Y(p) + (dtheta . K) Y(p)."""
    points, weights = sphere_grid(2 * lmax + 2, 2 * lmax + 2)
    points, weights = points.flatten(0, 1), weights.flatten()
    size = (lmax + 1) ** 2
    out = torch.zeros(size, size, 3, dtype=torch.float64)
    for axis in range(3):
        turn = torch.zeros_like(points)
        turn[:, axis] = 1
        tangent = torch.linalg.cross(turn, points)
        # Not torch.func.jvp, whose first call compiles for a second (and warns).
        values, slopes = torch.autograd.functional.jvp(
            lambda p: spherical_harmonics(p, lmax, normalization="integral"), points, tangent
        )
        out[:, :, axis] = torch.einsum("p,pi,pj->ij", weights, slopes, values)
    return out.flatten(0, 1).to(dtype=dtype, device=device)
