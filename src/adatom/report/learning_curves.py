"""Learning curves from a run directory's ``metrics.csv``."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adatom.core.errors import FileAccessError
from adatom.core.files import require_readable

#: Columns that say when, not how well.
_COUNTERS = {"step", "epoch"}


def read_learning_curves(
    run_directory: str | os.PathLike[str],
    file_name: str = "metrics.csv",
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Read every logged quantity of a training run.

    Args:
        run_directory: What ``adatom s2ef fit`` wrote.
        file_name: Of the file in it.

    Returns:
        Column name to (step, value); columns without a number are left out.

    Raises:
        FileAccessError: If there is no such file, or it has no ``step`` column.
    """
    path = require_readable(Path(run_directory) / file_name)
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or "step" not in rows[0]:
        raise FileAccessError(f"{path} has no rows with a 'step'", expected="a metrics file")
    curves = {}
    for name in (name for name in rows[0] if name not in _COUNTERS):
        points = [(float(row["step"]), float(row[name])) for row in rows if row[name]]
        if points:
            step, value = np.array(points).T
            curves[name] = (step, value)
    return curves
