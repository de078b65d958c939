"""The plot of the model zoo."""

from __future__ import annotations

import pytest

from adatom.core.errors import ConfigError
from adatom.report.model_zoo import ZooPanel, ZooPoint, zoo_plot


def panel(*names: str) -> ZooPanel:
    points = [ZooPoint(name, 1000 * i, 2.0 * i, 0.5 / i) for i, name in enumerate(names, start=1)]
    return ZooPanel("A set", "E MAE (eV)", 1.0, points)


def size(image: bytes) -> tuple[int, int]:
    """Return width and height from the header of a PNG file."""
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(image[16:20], "big"), int.from_bytes(image[20:24], "big")


def test_each_set_has_a_row_of_two_panels_and_the_same_results_give_the_same_file():
    one, two = zoo_plot([panel("A", "B")]), zoo_plot([panel("A", "B"), panel("B", "C")])
    assert one == zoo_plot([panel("A", "B")])
    assert size(one)[0] == size(two)[0]
    assert size(two)[1] == size(one)[1] + 3.4 * 120


def test_nothing_to_plot_is_said():
    with pytest.raises(ConfigError, match="no trained network"):
        zoo_plot([])
