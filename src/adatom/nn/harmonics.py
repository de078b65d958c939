"""Real spherical harmonics with y as the polar axis (the basis of ``e3nn.o3``).

Degree 1 is (x, y, z) for m = -1, 0, +1. For general l the component m >= 0 is
N P_l^m(y) Re (z + i x)^m and m < 0 is N P_l^|m|(y) Im (z + i x)^|m|, without the
Condon-Shortley phase.
"""

from __future__ import annotations

import math

import torch


def spherical_harmonics(
    vectors: torch.Tensor, lmax: int, *, normalization: str = "norm"
) -> torch.Tensor:
    """Evaluate all real spherical harmonics of degree ``0..lmax``.

    Args:
        vectors: ``[..., 3]`` unit vectors (a degree-l solid harmonic is returned otherwise).
        lmax: Highest degree.
        normalization: ``"norm"`` (the squares of each degree sum to 1), ``"component"`` (to
            2l + 1) or ``"integral"`` (orthonormal over the sphere).

    Returns:
        ``[..., (lmax + 1)^2]``, l-major, in the dtype of ``vectors``.
    """
    x, y, z = vectors.unbind(-1)
    squared = x * x + y * y + z * z
    cosine, sine = torch.ones_like(x), torch.zeros_like(x)
    rows: dict[tuple[int, int], torch.Tensor] = {}
    for m in range(lmax + 1):
        for degree, polar in _polar_factors(y, squared, m, lmax).items():
            rows[degree, m] = _scale(degree, m, normalization) * polar * cosine
            if m:
                rows[degree, -m] = _scale(degree, m, normalization) * polar * sine
        cosine, sine = z * cosine - x * sine, z * sine + x * cosine
    order = [(degree, m) for degree in range(lmax + 1) for m in range(-degree, degree + 1)]
    return torch.stack([rows[pair] for pair in order], dim=-1)


def _polar_factors(
    y: torch.Tensor, squared: torch.Tensor, m: int, lmax: int
) -> dict[int, torch.Tensor]:
    """Return P_l^m / sin^m for l = m..lmax, homogeneous in (y, r)."""
    factors = {m: torch.full_like(y, float(math.prod(range(1, 2 * m, 2))))}
    for degree in range(m + 1, lmax + 1):
        value = (2 * degree - 1) * y * factors[degree - 1]
        if degree - 2 >= m:
            value = value - (degree + m - 1) * squared * factors[degree - 2]
        factors[degree] = value / (degree - m)
    return factors


def _scale(degree: int, m: int, normalization: str) -> float:
    square = math.factorial(degree - m) / math.factorial(degree + m) * (2 if m else 1)
    if normalization == "component":
        square *= 2 * degree + 1
    elif normalization == "integral":
        square *= (2 * degree + 1) / (4 * math.pi)
    return math.sqrt(square)
