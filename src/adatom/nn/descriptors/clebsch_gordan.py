"""Clebsch-Gordan coefficients, also of half-integer angular momenta."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt


@lru_cache(maxsize=512)
def clebsch_gordan(j1: int, j2: int, j: int) -> npt.NDArray[np.float64]:
    """Return ``<j1 m1 j2 m2 | j m>`` for twice the angular momenta.

    By Racah's formula: D. A. Varshalovich, A. N. Moskalev, V. K. Khersonskii, Quantum Theory of
    Angular Momentum (1988), 8.2.1 (3), with the phase of Condon and Shortley.

    Args:
        j1: Twice the first angular momentum.
        j2: Twice the second.
        j: Twice the sum; all coefficients are zero unless it has the parity of ``j1 + j2``.

    Returns:
        ``[j1 + 1, j2 + 1, j + 1]``; index k of j stands for m = k - j / 2.
    """
    table = np.zeros((j1 + 1, j2 + 1, j + 1))
    if (j1 + j2 + j) % 2:
        return table
    for k1, k2 in np.ndindex(j1 + 1, j2 + 1):
        k = k1 + k2 - (j1 + j2 - j) // 2
        if 0 <= k <= j:
            table[k1, k2, k] = _coefficient(j1, j2, j, k1, k2, k)
    return table


def _coefficient(j1: int, j2: int, j: int, k1: int, k2: int, k: int) -> float:
    f = math.factorial
    apart = (j1 + j2 - j) // 2
    total = 0.0
    for z in range(apart + 1):
        others = (
            apart - z,
            j1 - k1 - z,
            k2 - z,
            (j - j2 - j1) // 2 + k1 + z,
            (j - j1 + j2) // 2 - k2 + z,
        )
        if min(others) >= 0:
            total += (-1) ** z / (f(z) * math.prod(f(n) for n in others))
    triangle = f(apart) * f((j1 - j2 + j) // 2) * f((-j1 + j2 + j) // 2)
    projections = f(k1) * f(j1 - k1) * f(k2) * f(j2 - k2) * f(k) * f(j - k) * (j + 1)
    return total * math.sqrt(triangle * projections / f((j1 + j2 + j) // 2 + 1))
