"""The self-test that a portable model carries: structures and what the potential gave for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from adatom.core.errors import DataError
from adatom.core.files import require_readable
from adatom.deploy.kim.calculator import KimCalculator
from adatom.deploy.kim.export_check import SELF_TEST, TOLERANCES, Expected, ExportError

SCHEMA, VERSION = "adatom-kim-self-test", 1
#: What comes through compiled code and another machine may differ by this times as much.
_ALLOWANCE = 10.0


def self_test_text(
    structures: Mapping[str, Atoms], expected: Mapping[str, Expected], dtype: str
) -> str:
    """Return the text of self_test.json; lengths in angstrom, energies in eV."""
    record = {
        "schema": SCHEMA,
        "version": VERSION,
        "tolerance": _ALLOWANCE * TOLERANCES[dtype],
        "structures": [
            {
                "name": name,
                "symbols": atoms.get_chemical_symbols(),
                "positions": atoms.positions.tolist(),
                "cell": atoms.cell.array.tolist(),
                "pbc": atoms.pbc.tolist(),
                "energy": expected[name].energy,
                "energies": expected[name].energies.tolist(),
                "forces": expected[name].forces.tolist(),
            }
            for name, atoms in structures.items()
        ],
    }
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def run_self_test(folder: Path, name: str) -> float:
    """Evaluate an installed model on the structures of its folder.

    Args:
        folder: That of the portable model.
        name: KIM's name of the model.

    Returns:
        The largest difference, relative to the larger of 1 and the greatest value.

    Raises:
        DataError: If the file is damaged.
        ExportError: If a result differs from what the potential gave.
        KimError: If the model fails.
    """
    path = require_readable(folder / SELF_TEST)
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        tolerance, rows = float(record["tolerance"]), list(record["structures"])
        known = (record["schema"], record["version"]) == (SCHEMA, VERSION)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{str(path)!r} is damaged: {error!r}") from error
    if not known:
        raise DataError(f"{str(path)!r} is no self-test that this version of adatom knows")
    calculator = KimCalculator(name)
    try:
        return max(_checked(calculator, row, tolerance) for row in rows)
    finally:
        calculator.close()


def _checked(calculator: KimCalculator, row: Mapping[str, Any], tolerance: float) -> float:
    atoms = Atoms(row["symbols"], positions=row["positions"], cell=row["cell"], pbc=row["pbc"])
    count = len(atoms)
    atoms.calc = calculator
    found = {
        "energy": np.array([atoms.get_potential_energy() / count]),
        "energies": atoms.get_potential_energies(),
        "forces": atoms.get_forces(),
    }
    largest = 0.0
    for quantity, value in found.items():
        expected = np.array(row[quantity], dtype=float)
        if quantity == "energy":
            expected = expected.reshape(1) / count
        scale = max(1.0, float(np.abs(expected).max()))
        difference = float(np.abs(value - expected).max()) / scale
        if not difference <= tolerance:
            raise ExportError(
                f"The installed model's {quantity} of {row['name']!r} differ by {difference:.1e} "
                "from what the potential gave when it was exported",
                expected=f"at most {tolerance:.0e}",
                fix="Do not use it; remove it, and export and install it again.",
            )
        largest = max(largest, difference)
    return largest
