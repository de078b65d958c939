"""Plots as data URIs, from plain arrays."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Array = NDArray[np.float64]

COLORS = ("#0b6e99", "#d1495b", "#edae49", "#3a7d44", "#7b4b94", "#6c757d")

#: Scatter plots draw at most this many points; the numbers always use all of them.
MOST_POINTS = 20_000


def parity(
    reference: Array, predicted: Array, *, label: str, unit: str, groups: Sequence[str] = ()
) -> str:
    """Plot predicted against reference values.

    Args:
        reference: ``[n]``.
        predicted: ``[n]``.
        label: Quantity, such as ``"force component"``.
        unit: Such as ``"eV/angstrom"``.
        groups: ``[n]`` names that colour the points, or empty.
    """
    figure, axes = _axes(4.6, 4.2)
    rows = _thin(len(reference))
    size, strength = (8.0, 0.8) if len(rows) < 300 else (3.0, 0.5)
    for color, (name, chosen) in zip(cycle(COLORS), _split(rows, groups), strict=False):
        axes.plot(
            reference[chosen],
            predicted[chosen],
            ".",
            ms=size,
            alpha=strength,
            mew=0,
            color=color,
            label=name,
            rasterized=True,
        )
    low, high = _limits(reference, predicted)
    axes.plot([low, high], [low, high], "-", color="#9aa7b6", lw=1, zorder=0)
    axes.set(
        xlim=(low, high),
        ylim=(low, high),
        aspect="equal",
        xlabel=f"reference {label} ({unit})",
        ylabel=f"predicted {label} ({unit})",
    )
    if groups:
        axes.legend(frameon=False, fontsize=8)
    return to_uri(figure)


def error_histogram(errors: Array, *, label: str, unit: str) -> str:
    """Plot the distribution of signed errors ``[n]``; many are counted on a logarithmic axis."""
    figure, axes = _axes(4.6, 4.2)
    bins = int(np.clip(2 * np.sqrt(len(errors)), 10, 80))
    axes.hist(errors, bins=bins, color=COLORS[0], log=len(errors) > 1000)
    axes.axvline(0.0, color="#9aa7b6", lw=1)
    axes.set(xlabel=f"error of {label} ({unit})", ylabel="count")
    return to_uri(figure)


def lines(
    series: Mapping[str, tuple[Array, Array]],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    level: float | None = None,
) -> str:
    """Plot named curves.

    Args:
        series: Name to (x, y).
        xlabel: With unit.
        ylabel: With unit.
        log: Logarithmic y axis.
        level: A horizontal line to compare with.
    """
    figure, axes = _axes()
    for color, (name, (x, y)) in zip(cycle(COLORS), series.items(), strict=False):
        axes.plot(x, y, color=color, lw=1.3, label=name)
    if level is not None:
        axes.axhline(level, color="#9aa7b6", lw=1, ls="--")
    if log:
        axes.set_yscale("log")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8)
    return to_uri(figure)


def to_uri(figure: Figure) -> str:
    """Return a figure as a PNG data URI."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _axes(width: float = 5.6, height: float = 3.4) -> tuple[Figure, Axes]:
    # A bare Figure needs no pyplot and leaves no global state behind.
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eceff3", lw=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _limits(*values: Array) -> tuple[float, float]:
    low = min(float(v.min()) for v in values)
    high = max(float(v.max()) for v in values)
    margin = 0.03 * (high - low) or 1.0
    return low - margin, high + margin


def _thin(count: int) -> NDArray[np.int64]:
    step = max(1, -(-count // MOST_POINTS))
    return np.arange(0, count, step)


def _split(rows: NDArray[np.int64], groups: Sequence[str]) -> list[tuple[str, NDArray[np.int64]]]:
    if not len(groups):
        return [("", rows)]
    names = np.asarray(groups)[rows]
    return [(str(name), rows[names == name]) for name in sorted(set(names.tolist()))]
