"""Spherical Bessel functions of the first kind, their roots, and a radial basis made of them.

The functions come from Poisson's integral (DLMF 10.54.2), which unlike recurrence in the degree
has no cancellation at small arguments: ``j_l(x) = (-i)^l / 2`` times the integral of
``exp(i x t) P_l(t)`` over t from -1 to 1. The basis is expanded once in Chebyshev polynomials of
the distance, to the rounding of float64: it is then a polynomial, smooth at every distance, of
which autograd takes as many derivatives as are wanted, in any dtype.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float64]

#: Halvings of an interval of length pi until nothing is left of it in float64.
_HALVINGS = 54
#: Chebyshev coefficients below this part of the largest are rounding.
_NEGLIGIBLE = 1e-14


def spherical_bessel(degree: int, x: Floats) -> Floats:
    """Return ``j_l(x)``, to about 1e-15 in absolute terms.

    Args:
        degree: l, at least 0.
        x: Any shape; not negative.
    """
    largest = float(x.max(initial=0.0))
    # Gauss quadrature converges at once when each oscillation has more than two points.
    points = 2 * (math.ceil(largest / 2) + degree // 2 + 20)
    nodes, weights = (part[points // 2 :] for part in _gauss(points))  # the integrand is even
    weights = weights * np.polynomial.legendre.legval(nodes, [0.0] * degree + [1.0])
    wave = np.sin if degree % 2 else np.cos
    sign = -1.0 if degree % 4 in (2, 3) else 1.0
    return np.asarray(sign * (wave(x[..., None] * nodes) @ weights))


def bessel_roots(max_degree: int, count: int) -> Floats:
    """Return the first positive roots of ``j_0 .. j_max_degree``, ``[max_degree + 1, count]``.

    Between two neighboring roots of ``j_l`` lies exactly one root of ``j_(l+1)`` (DLMF 10.21(i)),
    which bisection finds.

    Args:
        max_degree: At least 0.
        count: How many of each, at least 1.
    """
    roots = np.pi * np.arange(1, count + max_degree + 1, dtype=np.float64)
    rows = [roots[:count]]
    for degree in range(1, max_degree + 1):
        low, high = roots[:-1].copy(), roots[1:].copy()
        rising = spherical_bessel(degree, low) < 0
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            before = (spherical_bessel(degree, middle) < 0) == rising
            low, high = np.where(before, middle, low), np.where(before, high, middle)
        roots = 0.5 * (low + high)
        rows.append(roots[:count])
    return np.stack(rows)


def spherical_bessel_basis(
    distances: torch.Tensor, num_spherical: int, num_radial: int
) -> torch.Tensor:
    """Return the orthonormal radial functions of a sphere of radius 1 that vanish on it.

    ``N_ln j_l(z_ln d)`` with ``z_ln`` the n-th root of ``j_l`` and
    ``N_ln = sqrt(2) / |j_(l+1)(z_ln)|``, so that the integral of ``d^2`` times the product of two
    functions of one l over d from 0 to 1 is 1 or 0 (Gasteiger, Gross, Guennemann, ICLR 2020,
    eq. 7 for a cutoff of 1).

    Args:
        distances: ``[E]`` over the cutoff; those above 1 count as 1.
        num_spherical: Degrees L: l from 0 to L - 1.
        num_radial: Roots of each degree.

    Returns:
        ``[L, E, num_radial]``, in the dtype of ``distances``.
    """
    table = _chebyshev_table(num_spherical, num_radial, distances.dtype, distances.device)
    polynomials = chebyshev_polynomials(distances.clamp(max=1.0), table.shape[1])
    return torch.matmul(polynomials, table)


def chebyshev_polynomials(x: torch.Tensor, count: int) -> torch.Tensor:
    """Return ``T_0 .. T_(count - 1)`` of ``x [E]``, ``[E, count]``.

    Each step doubles their number by ``T_(m+k) = 2 T_m T_k - T_(m-k)``.
    """
    known = torch.stack([torch.ones_like(x), x], dim=1)
    while known.shape[1] < count:
        highest = known.shape[1] - 1
        more = 2 * known[:, -1:] * known[:, 1:] - known[:, :highest].flip(1)
        known = torch.cat([known, more], dim=1)
    return known[:, :count]


@lru_cache(maxsize=16)
@torch.inference_mode(mode=False)
def _chebyshev_table(
    num_spherical: int, num_radial: int, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Return the coefficients ``[L, count, num_radial]`` of the basis."""
    coefficients = _chebyshev_coefficients(num_spherical, num_radial)
    return torch.from_numpy(coefficients).to(dtype=dtype, device=device)


@lru_cache(maxsize=16)
def _gauss(points: int) -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(points)


@lru_cache(maxsize=16)
def _chebyshev_coefficients(num_spherical: int, num_radial: int) -> Floats:
    roots = bessel_roots(num_spherical - 1, num_radial)
    nodes = 2 * math.ceil(roots.max()) + 64
    angles = np.pi * (np.arange(nodes) + 0.5) / nodes
    # Half of the nodes are negative, where a function is as on the other side up to its parity.
    x, negative = np.abs(np.cos(angles)), np.cos(angles) < 0
    table = np.empty((num_spherical, nodes, num_radial))
    to_coefficients = 2 / nodes * np.cos(np.arange(nodes)[:, None] * angles)
    to_coefficients[0] /= 2
    for degree, own in enumerate(roots):
        scale = math.sqrt(2) / np.abs(spherical_bessel(degree + 1, own))
        values = spherical_bessel(degree, x[:, None] * own) * scale
        values[negative] *= (-1) ** degree
        table[degree] = to_coefficients @ values
    size = np.abs(table).max(axis=(0, 2))
    return table[:, : int(np.flatnonzero(size > _NEGLIGIBLE * size.max())[-1]) + 1]
