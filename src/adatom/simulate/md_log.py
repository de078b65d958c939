"""The log of a molecular dynamics run, as numbers and as a CSV file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TextIO

from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError

from adatom.core.errors import DataError
from adatom.core.files import atomic_write


@dataclass(frozen=True, slots=True)
class LogRow:
    """State of a run after one step.

    Attributes:
        step: Steps since the start of the trajectory.
        time_fs: Simulated time, in fs.
        temperature_K: Instantaneous, from the kinetic energy.
        potential_energy_eV: Energy of the potential.
        kinetic_energy_eV: Of the atoms.
        total_energy_eV: Sum of the two.
        pressure_GPa: Virial and kinetic part; None without a volume.
        volume_A3: In cubic angstrom; None without a volume.
    """

    step: int
    time_fs: float
    temperature_K: float  # noqa: N815 (the column is named with its unit)
    potential_energy_eV: float  # noqa: N815
    kinetic_energy_eV: float  # noqa: N815
    total_energy_eV: float  # noqa: N815
    pressure_GPa: float | None  # noqa: N815
    volume_A3: float | None  # noqa: N815


COLUMNS = [item.name for item in fields(LogRow)]


def measure(atoms: Atoms, step: int, timestep: float) -> LogRow:
    """Describe the present state.

    Args:
        atoms: With a calculator that has results.
        step: Steps so far.
        timestep: In fs.
    """
    potential = float(atoms.get_potential_energy())
    kinetic = float(atoms.get_kinetic_energy())
    volume = float(atoms.get_volume()) if atoms.cell.rank == 3 else None
    return LogRow(
        step,
        step * timestep,
        float(atoms.get_temperature()),
        potential,
        kinetic,
        potential + kinetic,
        None if volume is None else _pressure(atoms, kinetic, volume),
        volume,
    )


class LogWriter:
    """Appends rows to a CSV file; made by :func:`logging_to`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._writer = csv.DictWriter(stream, COLUMNS)

    def write(self, row: LogRow) -> None:
        """Append one row, at once visible in the file."""
        self._writer.writerow(asdict(row))
        self._stream.flush()


@contextmanager
def logging_to(path: str | os.PathLike[str], *, keep_until: int | None) -> Iterator[LogWriter]:
    """Open a log.

    Args:
        path: CSV file; missing folders are made.
        keep_until: Keep rows up to this step (restart); None starts anew.

    Yields:
        An object with ``write(row)``.

    Raises:
        DataError: If a restart finds a file that is not such a log.
    """
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = [] if keep_until is None or not file.exists() else _rows_until(file, keep_until)
    with atomic_write(file) as part, part.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(kept)
    with file.open("a", newline="") as stream:
        yield LogWriter(stream)


def _rows_until(file: Path, step: int) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames != COLUMNS:
            raise DataError(f"The log {str(file)!r} has other columns", expected=", ".join(COLUMNS))
        # A killed run may have left half a row, which has no time or energy.
        return [row for row in reader if row["volume_A3"] is not None and int(row["step"]) <= step]


def _pressure(atoms: Atoms, kinetic: float, volume: float) -> float | None:
    try:
        stress = atoms.get_stress(voigt=True)
    except PropertyNotImplementedError:
        return None
    return float((-stress[:3].sum() / 3 + 2 * kinetic / (3 * volume)) / units.GPa)
