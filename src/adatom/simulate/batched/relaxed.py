"""What the relaxation of one of many structures gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from adatom.data.ase_convert import to_ase
from adatom.data.atomic_data import AtomicData
from adatom.simulate.batched.intake import Structure


@dataclass(frozen=True, slots=True)
class Relaxed:
    """One structure at the end of its relaxation.

    Attributes:
        number: Its place in the input.
        sid: Its name.
        atoms: The last state, with energy, forces (and stress); of a structure that failed the
            last state that could be computed, or the start, without results; None if it could not
            be read.
        converged: Whether no force (and no force on the cell) exceeds the limit.
        steps: Steps taken.
        energies: In eV, before the first step and after each.
        max_force: Largest force on an atom at the end, eV/angstrom; NaN if there is none.
        error: Why it failed, or None.
    """

    number: int
    sid: str
    atoms: Atoms | None
    converged: bool
    steps: int
    energies: list[float]
    max_force: float
    error: str | None = None


def placed(
    given: Structure,
    pos: npt.NDArray[np.float64],
    cell: npt.NDArray[np.float64],
    results: dict[str, Any],
) -> Atoms:
    """Return a structure elsewhere, with what was computed for it there.

    Args:
        given: As it came; not changed.
        pos: ``[n, 3]`` in angstrom.
        cell: ``[3, 3]`` in angstrom.
        results: ASE's names to values; may be empty.
    """
    atoms = bare(given)
    atoms.set_cell(cell)
    atoms.positions[:] = pos
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def bare(given: Structure) -> Atoms:
    """Return a copy as an ASE structure, without results."""
    if not isinstance(given, AtomicData):
        copy: Atoms = given.copy()
        return copy
    atoms = to_ase(given)[0]
    atoms.calc = None
    return atoms
