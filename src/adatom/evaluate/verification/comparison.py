"""Evaluate structures and compare what has to be equal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from adatom.core.errors import NonFiniteError
from adatom.evaluate.verification.records import Finding
from adatom.evaluate.verification.subject import Floats, Subject


@dataclass(frozen=True)
class Point:
    """Energy in eV and forces ``[N, 3]`` in eV/angstrom of one structure."""

    energy: float
    forces: Floats


def evaluate(calculator: Calculator, atoms: Atoms) -> Point:
    """Compute a structure; nothing is taken over from the one before.

    Raises:
        NonFiniteError: If the energy or a force is not finite.
    """
    # Calculators keep the results of the structure before.
    calculator.reset()
    system = atoms.copy()
    system.calc = calculator
    energy, forces = float(system.get_potential_energy()), np.array(system.get_forces())
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise NonFiniteError(
            f"The energy or a force of {atoms.get_chemical_formula()} is not finite"
        )
    return Point(energy, forces)


def difference(found: Point, expected: Point) -> float:
    """Return the larger of the relative differences of energy and forces.

    Sizes below 1 eV per structure and 1 eV/angstrom count as that.
    """
    energy = abs(found.energy - expected.energy) / max(1.0, abs(expected.energy))
    size = max(1.0, float(np.abs(expected.forces).max(initial=0.0)))
    forces = float(np.abs(found.forces - expected.forces).max(initial=0.0)) / size
    return max(energy, forces)


def same(subject: Subject, worst: float, what: str) -> Finding:
    """Judge the largest of differences that should be none.

    Args:
        subject: Gives the limit.
        worst: The largest :func:`difference`.
        what: Sentence for a failure.
    """
    limit = subject.limits.same
    passed = worst <= limit
    return Finding(passed=passed, value=worst, limit=limit, detail="" if passed else what)
