"""Derivatives by extrapolated differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Each step is smaller by this factor.
_FACTOR = 2.0
_STEPS = 6
#: An error that grows by this factor over the best one ends the search.
_SAFE = 10.0


def ridders_derivative(function: Callable[[float], float], step: float) -> tuple[float, float]:
    """Differentiate at 0 with central differences, extrapolated to step zero.

    C. J. F. Ridders, Advances in Engineering Software 4, 75 (1982): a Neville table of
    differences of ever smaller steps; the entry that changes least from its neighbors is taken.

    Args:
        function: Smooth near 0.
        step: The first and largest step.

    Returns:
        The derivative, and an estimate of its error.
    """
    table = np.full((_STEPS, _STEPS), np.nan)
    best, error = 0.0, np.inf
    for i in range(_STEPS):
        h = step / _FACTOR**i
        table[0, i] = (function(h) - function(-h)) / (2 * h)
        power = _FACTOR**2
        for j in range(1, i + 1):
            table[j, i] = (table[j - 1, i] * power - table[j - 1, i - 1]) / (power - 1)
            power *= _FACTOR**2
            changed = max(
                abs(table[j, i] - table[j - 1, i]), abs(table[j, i] - table[j - 1, i - 1])
            )
            if changed <= error:
                best, error = float(table[j, i]), float(changed)
        if i > 0 and abs(table[i, i] - table[i - 1, i - 1]) >= _SAFE * error:
            break
    return best, error
