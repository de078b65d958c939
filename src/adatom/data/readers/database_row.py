"""From a row of an ASE database to a structure, and the units a database declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ase import Atoms
from ase.db.row import AtomsRow

from adatom.data.label_units import UNIT_FACTORS, declared_units, plain_spelling


def row_to_atoms(row: AtomsRow) -> Atoms:
    """Convert a row; its key-value pairs and its data go to ``atoms.info``."""
    atoms: Atoms = row.toatoms()
    atoms.info.update(row.key_value_pairs)
    data = row.data
    if isinstance(data, Mapping):
        atoms.info.update(data)
    return atoms


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
