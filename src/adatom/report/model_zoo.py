"""The plot of the model zoo: errors against parameters and against speed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from adatom.core.errors import ConfigError
from adatom.report.plots import COLORS

_MARKERS = "osD^vP*X"


@dataclass(frozen=True, slots=True)
class ZooPoint:
    """One network on one set.

    Attributes:
        name: In the legend.
        parameters: Number of trained numbers.
        milliseconds: Time to predict one structure.
        error: In the unit of the panel.
    """

    name: str
    parameters: int
    milliseconds: float
    error: float


@dataclass(frozen=True, slots=True)
class ZooPanel:
    """All networks on one set.

    Attributes:
        title: Of the set.
        error: Label of the error axis, with unit.
        baseline: Error of the linear model.
        points: One per network.
    """

    title: str
    error: str
    baseline: float
    points: Sequence[ZooPoint]


def zoo_plot(panels: Sequence[ZooPanel]) -> bytes:
    """Plot one row per set: error against parameters, and against time per structure.

    Args:
        panels: At least one; a network has the same color in all of them.

    Returns:
        A PNG image.

    Raises:
        ConfigError: If there is nothing to plot.
    """
    names = list(dict.fromkeys(point.name for panel in panels for point in panel.points))
    if not names:
        raise ConfigError("There is no trained network to plot", expected="at least one")
    figure = Figure(figsize=(9.0, 3.4 * len(panels) + 0.5), layout="constrained")
    grid = figure.subplots(len(panels), 2, squeeze=False, sharey="row")
    for row, panel in zip(grid, panels, strict=True):
        for axes, quantity in zip(row, ("parameters", "milliseconds"), strict=True):
            _draw(axes, panel, quantity, names)
        row[0].set(ylabel=panel.error)
        row[1].set(xlabel="time to predict one structure (ms)")
        row[0].set_title(panel.title, loc="left", fontsize=10)
    handles, labels = grid[0][0].get_legend_handles_labels()
    # The first panel may lack a network that the others have.
    for axes in grid[1:, 0]:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    stream = io.BytesIO()
    # Without the version of matplotlib, so that the same results give the same file.
    figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})
    return stream.getvalue()


def _draw(axes: Axes, panel: ZooPanel, quantity: str, names: Sequence[str]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eceff3", lw=0.8)
    axes.set_axisbelow(True)
    axes.axhline(panel.baseline, color="#9aa7b6", lw=1, ls="--", label="linear baseline")
    for point in panel.points:
        number = names.index(point.name)
        axes.plot(
            getattr(point, quantity),
            point.error,
            _MARKERS[number % len(_MARKERS)],
            color=COLORS[number % len(COLORS)],
            ms=8,
            label=point.name,
        )
    axes.set(xscale="log", yscale="log", xlabel=quantity)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_PlainNumbers())
        axis.set_minor_formatter(_PlainNumbers())


class _PlainNumbers(LogFormatter):
    """Labels where matplotlib wants them, without powers of ten."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:,.10g}" if super().__call__(x, pos) else ""
