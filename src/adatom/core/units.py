"""Units that a file may declare, as factors to eV and angstrom, and the two forms of stress.

Constants are those of ``ase.units`` (CODATA 2014), so that a file converted here and a file
converted by ASE agree to the last digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import torch
from ase import units

from adatom.core.errors import DataError, unknown_name

#: A tensor or an array; the function returns what it was given.
TensorOrArray = TypeVar("TensorOrArray", torch.Tensor, np.ndarray)

#: Energy unit to eV.
ENERGY_UNITS: Mapping[str, float] = MappingProxyType(
    {
        "eV": 1.0,
        "meV": 1e-3,
        "Ha": units.Hartree,
        "Hartree": units.Hartree,
        "hartree": units.Hartree,
        "mHa": 1e-3 * units.Hartree,
        "Ry": units.Rydberg,
        "Rydberg": units.Rydberg,
        "kcal/mol": units.kcal / units.mol,
        "kJ/mol": units.kJ / units.mol,
        "J": units.J,
        "cm^-1": units.invcm,
    }
)

#: Length unit to angstrom.
LENGTH_UNITS: Mapping[str, float] = MappingProxyType(
    {
        "angstrom": 1.0,
        "Angstrom": 1.0,
        "Ang": 1.0,
        "A": 1.0,
        "\u00c5": 1.0,
        "Bohr": units.Bohr,
        "bohr": units.Bohr,
        "a0": units.Bohr,
        "nm": units.nm,
        "pm": 1e-3 * units.nm,
        "m": units.m,
    }
)

#: Pressure unit to eV/angstrom^3.
PRESSURE_UNITS: Mapping[str, float] = MappingProxyType(
    {
        "GPa": units.GPa,
        "MPa": 1e-3 * units.GPa,
        "kPa": 1e3 * units.Pascal,
        "Pa": units.Pascal,
        "kbar": 1e3 * units.bar,
        "kB": 1e3 * units.bar,
        "bar": units.bar,
        "atm": 101325.0 * units.Pascal,
    }
)

#: Force units as they are usually written, to eV/angstrom.
FORCE_UNITS: Mapping[str, float] = MappingProxyType(
    {
        f"{energy}/{length}": ENERGY_UNITS[energy] * (1.0 / LENGTH_UNITS[length])
        for energy in ENERGY_UNITS
        for length in LENGTH_UNITS
    }
)

#: Stress units as they are usually written, to eV/angstrom^3.
STRESS_UNITS: Mapping[str, float] = MappingProxyType(
    dict(PRESSURE_UNITS)
    | {
        f"{energy}/{length}^3": ENERGY_UNITS[energy] / LENGTH_UNITS[length] ** 3
        for energy in ENERGY_UNITS
        for length in LENGTH_UNITS
    }
)

_VOIGT_OF_MATRIX = [0, 5, 4, 5, 1, 3, 4, 3, 2]
_VOIGT_ROWS = [0, 1, 2, 1, 0, 0]
_VOIGT_COLUMNS = [0, 1, 2, 2, 2, 1]


def energy_factor(unit: str) -> float:
    """Return the factor from ``unit`` to eV, such as 27.2114 for ``"Ha"``.

    Raises:
        UnknownNameError: If the unit is not in :data:`ENERGY_UNITS`. Case matters: meV, not MeV.
    """
    return _factor("energy", unit, ENERGY_UNITS, ENERGY_UNITS)


def length_factor(unit: str) -> float:
    """Return the factor from ``unit`` to angstrom.

    Raises:
        UnknownNameError: If the unit is not in :data:`LENGTH_UNITS`.
    """
    return _factor("length", unit, LENGTH_UNITS, LENGTH_UNITS)


def force_factor(unit: str) -> float:
    """Return the factor from ``unit`` (energy/length, such as ``"Ha/Bohr"``) to eV/angstrom.

    Raises:
        UnknownNameError: If the unit is not in :data:`FORCE_UNITS`.
    """
    return _factor("force", unit, FORCE_UNITS, ("eV/A", "Ha/Bohr", "kcal/mol/A"))


def stress_factor(unit: str) -> float:
    """Return the factor from ``unit`` (such as ``"GPa"`` or ``"eV/A^3"``) to eV/angstrom^3.

    Raises:
        UnknownNameError: If the unit is not in :data:`STRESS_UNITS`.
    """
    return _factor("stress", unit, STRESS_UNITS, (*PRESSURE_UNITS, "eV/A^3", "Ha/Bohr^3"))


def voigt_to_matrix(voigt: TensorOrArray) -> TensorOrArray:
    """Expand ``[..., 6]`` in ASE order (xx, yy, zz, yz, xz, xy) to a symmetric ``[..., 3, 3]``.

    Stress only: no factors of two, as strain would need.

    Raises:
        DataError: If the last axis does not have length 6.
    """
    if not voigt.shape or voigt.shape[-1] != 6:
        raise DataError(
            f"A Voigt stress has shape {tuple(voigt.shape)}",
            expected="a last axis of length 6",
        )
    return voigt[..., _VOIGT_OF_MATRIX].reshape((*voigt.shape[:-1], 3, 3))


def matrix_to_voigt(matrix: TensorOrArray) -> TensorOrArray:
    """Reduce ``[..., 3, 3]`` to ``[..., 6]`` in ASE order; opposite shears are averaged.

    Raises:
        DataError: If the last two axes are not 3 by 3.
    """
    if tuple(matrix.shape[-2:]) != (3, 3):
        raise DataError(
            f"A stress matrix has shape {tuple(matrix.shape)}",
            expected="last axes of 3 by 3",
        )
    symmetric = 0.5 * (matrix + matrix.swapaxes(-1, -2))
    voigt: TensorOrArray = symmetric[..., _VOIGT_ROWS, _VOIGT_COLUMNS]
    return voigt


def _factor(
    kind: str,
    unit: str,
    table: Mapping[str, float],
    examples: Mapping[str, float] | tuple[str, ...],
) -> float:
    if unit in table:
        return table[unit]
    raise unknown_name(f"{kind} unit", unit, examples)
