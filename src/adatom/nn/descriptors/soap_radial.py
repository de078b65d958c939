"""Radial functions of SOAP: the overlap of a Gaussian with an orthonormal polynomial basis.

With the basis ``g_n`` of Loewdin's orthonormalization of ``(rc - r)^(n + 2)``, n = 1 .. n_max,

``R_nl(d) = integral_0^rc r^2 g_n(r) exp(-eta (r^2 + d^2)) i_l(2 eta r d) dr``

where ``i_l`` is the modified spherical Bessel function of the first kind: the coefficients of a
Gaussian at distance d divided by 4 pi Y_lm (A. P. Bartok, R. Kondor, G. Csanyi, Phys. Rev. B 87,
184115 (2013), eq. 31; L. Himanen et al., Comput. Phys. Commun. 247, 106949 (2020), for the basis).
The integral is a sum over 100 points of Gauss and Legendre, as in the published libraries. As a
function of d it is expanded in Chebyshev polynomials, to rounding.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from adatom.core.errors import ConfigError

Floats = npt.NDArray[np.float64]

_POINTS = 100
#: Distances at which functions are computed; narrower Gaussians would need more.
_NODES = 256
#: Chebyshev coefficients below this part of the largest are rounding.
_NEGLIGIBLE = 1e-14


def radial_table(n_max: int, l_max: int, cutoff: float, eta: float) -> Floats:
    """Return Chebyshev coefficients ``[terms, l_max + 1, n_max]`` of ``R_nl`` in ``2 d / rc - 1``.

    Args:
        n_max: Number of radial functions.
        l_max: Highest degree.
        cutoff: rc in angstrom.
        eta: In 1/angstrom^2.

    Raises:
        ConfigError: If the Gaussians are too narrow for the points of the integral.
    """
    angles = np.pi * (np.arange(_NODES) + 0.5) / _NODES
    values = radial_functions(0.5 * cutoff * (np.cos(angles) + 1.0), n_max, l_max, cutoff, eta)
    to_coefficients = 2 / _NODES * np.cos(np.arange(_NODES)[:, None] * angles)
    to_coefficients[0] /= 2
    table = np.tensordot(to_coefficients, values, axes=1)
    size = np.abs(table).max(axis=(1, 2))
    terms = int(np.flatnonzero(size > _NEGLIGIBLE * size.max())[-1]) + 1
    if terms > _POINTS:
        raise ConfigError(
            f"With eta {eta:g} the Gaussians are too narrow for the {_POINTS} points up to the "
            f"cutoff {cutoff:g} angstrom",
            fix="Choose a smaller eta.",
        )
    return np.ascontiguousarray(table[:terms])


def radial_functions(
    distances: Floats, n_max: int, l_max: int, cutoff: float, eta: float
) -> Floats:
    """Return ``R_nl`` at distances ``[D]``, ``[D, l_max + 1, n_max]``."""
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    r, roots = 0.5 * cutoff * (nodes + 1.0), np.sqrt(0.5 * cutoff * weights)
    powers = (cutoff - r[:, None]) ** np.arange(3, n_max + 3)
    # Loewdin's basis is the orthogonal matrix nearest to that of the powers.
    left, _, right = np.linalg.svd((roots * r)[:, None] * powers, full_matrices=False)
    basis = (roots * r)[:, None] * (left @ right)
    d = distances[:, None]
    bessel = scaled_bessel(l_max, 2 * eta * r * d) * np.exp(-eta * (r - d) ** 2)
    return np.ascontiguousarray(np.moveaxis(bessel @ basis, 0, 1))


def scaled_bessel(l_max: int, x: Floats) -> Floats:
    """Return ``exp(-x) i_l(x)`` for l = 0 .. l_max and ``x >= 0``, ``[l_max + 1, ...]``.

    Ratios of successive degrees come from the continued fraction (DLMF 10.51.4), downwards.
    """
    start = l_max + 20 + math.ceil(math.sqrt(80 * float(x.max(initial=0.0))))
    ratios = []
    ratio = np.zeros_like(x)
    for degree in range(start, 0, -1):
        ratio = x / (2 * degree + 1 + x * ratio)
        if degree <= l_max:
            ratios.append(ratio)
    safe = np.where(x > 1e-12, x, 1.0)
    found = [np.where(x > 1e-12, -np.expm1(-2 * safe) / (2 * safe), 1.0)]
    for ratio in reversed(ratios):
        found.append(found[-1] * ratio)
    return np.stack(found)
