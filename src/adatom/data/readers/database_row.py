"""From a row of an ASE database to a structure, and the units a database declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.cell import Cell
from ase.db.row import AtomsRow

from adatom.data.frame import Frame, fixed_by
from adatom.data.label_units import UNIT_FACTORS, declared_units, plain_spelling

#: What a row has for every atom, besides the results.
_ARRAYS = ("tags", "initial_magmoms", "initial_charges", "masses", "momenta")


def row_to_atoms(row: AtomsRow) -> Atoms:
    """Convert a row; its key-value pairs and its data go to ``atoms.info``."""
    atoms: Atoms = row.toatoms()
    atoms.info.update(row.key_value_pairs)
    data = row.data
    if isinstance(data, Mapping):
        atoms.info.update(data)
    return atoms


def row_frame(row: int, content: Mapping[str, Any]) -> Frame:
    """Make a frame of a decoded row, as :func:`row_to_atoms` would read it.

    Args:
        row: Its id.
        content: What the database holds for it.

    Raises:
        Exception: Whatever damaged content leads to.
    """
    pairs, data = content.get("key_value_pairs", {}), content.get("data", {})
    constraints = content.get("constraints", [])
    if not (type(pairs) is type(data) is dict and isinstance(constraints, list)):
        # Written by old versions of ASE: texts within the text.
        return Frame.of(row_to_atoms(AtomsRow({"id": row, **content})))
    numbers, positions = np.asarray(content["numbers"]), np.asarray(content["positions"])
    n = len(numbers)
    if positions.shape != (n, 3):
        raise ValueError(f"{n} atoms with positions of shape {positions.shape}")
    known = {**pairs, **content}
    fixed, ignored = fixed_by(constraints, n)
    return Frame(
        numbers=numbers,
        positions=positions,
        cell=_cell(content.get("cell")),
        pbc=np.broadcast_to(np.asarray(content.get("pbc", False), dtype=bool), (3,)),
        info={**pairs, **data},
        arrays={name: content[name] for name in _ARRAYS if content.get(name) is not None},
        results={name: known[name] for name in all_properties if known.get(name) is not None},
        fixed=fixed,
        ignored=ignored,
    )


def _cell(value: Any) -> npt.NDArray[np.float64]:
    if value is None:
        return np.zeros((3, 3))
    cell = np.asarray(value, dtype=np.float64)
    return cell if cell.shape == (3, 3) else np.asarray(Cell.new(cell).array)


def units_in_metadata(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Read declared units: ``energy_unit`` and the like, or SchNetPack's two entries."""
    found = declared_units(metadata)
    of_properties = metadata.get("_property_unit_dict")
    if isinstance(of_properties, Mapping):
        for name, unit in of_properties.items():
            if name in UNIT_FACTORS and isinstance(unit, str):
                found[name] = plain_spelling(unit)
    distance = metadata.get("_distance_unit")
    if isinstance(distance, str):
        found["length"] = plain_spelling(distance)
    return found
