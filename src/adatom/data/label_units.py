"""Units of a file: what it declares, what the user declares, and factors to eV and angstrom."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

from adatom.core.errors import DataError, unknown_name
from adatom.core.units import energy_factor, force_factor, length_factor, stress_factor

#: What can have a unit, and the function that gives its factor.
UNIT_FACTORS: Mapping[str, Callable[[str], float]] = MappingProxyType(
    {
        "length": length_factor,
        "energy": energy_factor,
        "forces": force_factor,
        "stress": stress_factor,
    }
)

#: Which unit each label is given in.
UNIT_OF_LABEL: Mapping[str, str] = MappingProxyType(
    {
        "energy": "energy",
        "relaxed_energy": "energy",
        "virial": "energy",
        "forces": "forces",
        "stress": "stress",
        "relaxed_pos": "length",
    }
)

_DECLARATION = re.compile(r"^(length|energy|forces?|stress)_units?$", re.IGNORECASE)
_LENGTH_SPELLING = re.compile(r"\b(angstroms?|ang)\b|\u00c5", re.IGNORECASE)


def check_units(units: Mapping[str, str] | None) -> dict[str, str]:
    """Return ``units`` as a dict after checking its names and values.

    Args:
        units: From ``length``, ``energy``, ``forces``, ``stress`` to a unit such as ``"Ha"``.

    Raises:
        UnknownNameError: If a name or a unit is unknown.
    """
    for name, unit in (units or {}).items():
        if name not in UNIT_FACTORS:
            raise unknown_name("quantity in units", name, UNIT_FACTORS)
        UNIT_FACTORS[name](unit)
    return dict(units or {})


def declared_units(entries: Mapping[str, Any]) -> dict[str, str]:
    """Find declarations such as ``energy_unit=eV`` or ``forces_units=eV/A`` among ``entries``."""
    found = {}
    for key, value in entries.items():
        match = _DECLARATION.match(key)
        if match and isinstance(value, str):
            name = match.group(1).lower()
            found["forces" if name == "force" else name] = plain_spelling(value)
    return found


def plain_spelling(unit: str) -> str:
    """Write a unit as :mod:`adatom.core.units` does: ``kcal mol-1 Ang-1`` is ``kcal/mol/A``."""
    unit = _LENGTH_SPELLING.sub("A", unit.strip()).replace("\u00b3", "^3").replace("**", "^")
    unit = re.sub(r"[\s*]*\b([A-Za-z]+)\^?-1\b", r"/\1", unit)
    return re.sub(r"\s*/\s*", "/", unit)


def merge_units(
    given: Mapping[str, str], declared: Mapping[str, str], where: str
) -> dict[str, str]:
    """Join the user's units with those a file declares.

    Args:
        given: The user's, checked.
        declared: The file's.
        where: Names the file or structure in messages.

    Raises:
        DataError: If the two contradict each other, or the file declares an unknown unit.
    """
    merged = dict(given)
    for name, unit in declared.items():
        try:
            factor = UNIT_FACTORS[name](unit)
        except KeyError as error:
            raise DataError(
                f"{where} declares its {name} in {unit!r}, which is not a known {name} unit",
                fix=f"Convert the file, or correct the declaration. ({error})",
            ) from error
        if name in given and UNIT_FACTORS[name](given[name]) != factor:
            raise DataError(
                f"Mixed units: {where} declares its {name} in {unit!r}, but "
                f"units.{name} = {given[name]!r} was given",
                fix=f"Remove units.{name}, or correct the declaration in the file.",
            )
        merged.setdefault(name, unit)
    return merged


def label_factors(
    labels: Collection[str], units: Mapping[str, str], where: str
) -> dict[str, float]:
    """Return the factor of each label to eV, eV/angstrom, eV/angstrom^3.

    Without any unit everything is taken as eV and angstrom. As soon as one unit differs from
    these, every label needs one: hartree with forces that are silently taken as eV/angstrom is
    how mixed units happen.

    Raises:
        DataError: If some units are foreign and others are not given.
    """
    foreign = [name for name, unit in units.items() if UNIT_FACTORS[name](unit) != 1.0]
    # Lengths do not count: positions, which every structure has, may be in angstrom unsaid.
    missing = sorted({UNIT_OF_LABEL[label] for label in labels} - set(units) - {"length"})
    if foreign and missing:
        raise DataError(
            f"Mixed units: {where} has its {foreign[0]} in {units[foreign[0]]!r}, but no unit is "
            f"given for its {', '.join(missing)}",
            fix="Give " + ", ".join(f"units.{name}" for name in missing) + " too.",
        )
    return {
        label: UNIT_FACTORS[UNIT_OF_LABEL[label]](units[UNIT_OF_LABEL[label]])
        if UNIT_OF_LABEL[label] in units
        else 1.0
        for label in labels
    }
