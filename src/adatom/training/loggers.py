"""Logs that a resumed run continues without a gap or a repeated step."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger

from adatom.core.errors import DataError
from adatom.core.files import atomic_write


class CsvMetrics(Logger):
    """One CSV file with a row per logged step; cells without a value are empty.

    Rows are appended and flushed at once. The columns grow when a new name appears.

    Args:
        path: Of the file.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self._columns: list[str] = []
        self._rows = 0

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """There is one version."""
        return ""

    @property
    def rows(self) -> int:
        """Rows written so far; what a checkpoint remembers."""
        return self._rows

    def keep(self, rows: int) -> None:
        """Drop everything after the first ``rows`` rows, which a killed run wrote.

        Raises:
            DataError: If the file has fewer rows than that.
        """
        if not self.path.exists() and rows == 0:
            return
        found = self._read() if self.path.exists() else []
        if len(found) < rows + 1 and rows > 0:
            raise DataError(
                f"{str(self.path)!r} has {max(0, len(found) - 1)} rows",
                expected=f"at least the {rows} rows that were there at the last checkpoint",
                fix="Restore the file from a copy, or start anew in another run_dir.",
            )
        self._columns = found[0] if rows else []
        self._rows = rows
        self._write([found[0], *found[1 : rows + 1]] if rows else [])

    def keep_all(self) -> None:
        """Continue the file of an earlier process, if there is one."""
        self.keep(max(0, len(self._read()) - 1) if self.path.exists() else 0)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row."""
        values: dict[str, Any] = {"step": step, **metrics}
        new = [name for name in values if name not in self._columns]
        if new:
            found = self._read()[1:] if self._rows else []
            self._columns += new
            padded = [[*row, *[""] * (len(self._columns) - len(row))] for row in found]
            self._write([self._columns, *padded])
        with self.path.open("a", newline="") as stream:
            csv.writer(stream).writerow([_text(values.get(name)) for name in self._columns])
        self._rows += 1

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run directory holds the configuration."""

    def _read(self) -> list[list[str]]:
        with self.path.open(newline="") as stream:
            return list(csv.reader(stream))

    def _write(self, rows: list[list[str]]) -> None:
        with atomic_write(self.path) as part, part.open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)


class TensorBoardMetrics(Logger):
    """Scalars for TensorBoard.

    Args:
        folder: Of the event files.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self._folder = str(folder)
        self._writer: Any = None
        self._purge_step: int | None = None

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "tensorboard"

    @property
    def version(self) -> str:
        """There is one version."""
        return ""

    def resume_at(self, step: int) -> None:
        """Hide what a killed run logged after ``step``."""
        self._purge_step = step + 1

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(self._folder, purge_step=self._purge_step)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run directory holds the configuration."""

    def save(self) -> None:
        """Flush to the disk."""
        if self._writer is not None:
            self._writer.flush()

    def finalize(self, status: str) -> None:
        """Close the event file."""
        del status
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _text(value: Any) -> str:
    if value is None:
        return ""
    return repr(float(value)) if not isinstance(value, int) else str(value)
