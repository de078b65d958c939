"""Forces are the derivative of the energy (KIM: vc-forces-numerical-derivative)."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from adatom.evaluate.verification.comparison import evaluate
from adatom.evaluate.verification.records import Finding
from adatom.evaluate.verification.ridders import ridders_derivative
from adatom.evaluate.verification.structures import cluster, some_of
from adatom.evaluate.verification.subject import Floats, Subject

#: Highest score of each grade, as KIM prints them; what is worse is F.
GRADES = {"A": 7.5, "B": 10.0, "C": 12.5, "D": 15.0}
#: Single components of forces, and random directions of all atoms together.
_COMPONENTS, _DIRECTIONS = 10, 3
#: Angstrom; the first and largest step of an atom.
_STEP = 0.02
#: No derivative is trusted beyond this, relative to the forces.
_BEST_TRUST = 1e-12


def check_forces(subject: Subject, rng: np.random.Generator) -> Finding:
    """Compare forces with extrapolated differences of the energy, and give a grade.

    Clusters of each species (of a few if there are many) and of all together. The deviation is
    the root mean square over the directions, weighted by how well each derivative is known,
    relative to the forces. The score is its decimal logarithm above the machine precision of
    float64.
    """
    calculator = subject.make()
    species = some_of(subject.species, rng)
    groups = [[symbol] for symbol in species] + ([species] if len(species) > 1 else [])
    worst = 0.0
    for group in groups:
        atoms = cluster(group, rng, lattice="fcc", repeat=(2, 2, 1))
        worst = max(worst, _deviation(calculator, atoms, rng))
    subject.close(calculator)
    grade, limit = grade_of(worst), subject.limits.worst_grade
    passed = grade <= limit
    return Finding(
        passed=passed,
        value=worst,
        limit=float(np.finfo(float).eps * 10 ** GRADES[limit]),
        grade=grade,
        detail="" if passed else "Forces are not the negative derivative of the energy.",
    )


def grade_of(deviation: float) -> str:
    """Return the grade of a relative deviation of forces, A to F."""
    if not np.isfinite(deviation):
        return "F"
    score = np.log10(max(deviation / np.finfo(float).eps, 1.0))
    return next((grade for grade, highest in GRADES.items() if score <= highest), "F")


def _deviation(calculator: Calculator, atoms: Atoms, rng: np.random.Generator) -> float:
    forces = evaluate(calculator, atoms).forces
    found, numerical, errors = [], [], []
    for direction in _directions(len(atoms), rng):
        slope, error = _slope(calculator, atoms, direction)
        # A projection has the size of a component, however many atoms move.
        found.append(float((forces * direction).sum()))
        numerical.append(-slope)
        errors.append(error)
    scale = max(float(np.sqrt(np.mean(np.square(found)))), 1e-8)
    weights = 1 / np.maximum(np.array(errors) / scale, _BEST_TRUST)
    weights /= weights.max()
    # Where no derivative is known at all, the energy is no function to differentiate.
    if not np.isfinite(errors).all() or min(errors) > scale:
        return float("inf")
    squares = np.square((np.array(found) - np.array(numerical)) / scale)
    return float(np.sqrt((weights * squares).sum() / weights.sum()))


def _directions(count: int, rng: np.random.Generator) -> list[Floats]:
    """Return unit vectors ``[N, 3]``: single components, then all atoms at random."""
    chosen = rng.choice(3 * count, min(_COMPONENTS, 3 * count), replace=False)
    single = [np.eye(3 * count)[i].reshape(count, 3) for i in chosen]
    spread = rng.normal(size=(_DIRECTIONS, count, 3))
    return single + [each / np.linalg.norm(each) for each in spread]


def _slope(calculator: Calculator, atoms: Atoms, direction: Floats) -> tuple[float, float]:
    def energy(shift: float) -> float:
        moved = atoms.copy()
        moved.positions = atoms.positions + shift * direction
        return evaluate(calculator, moved).energy

    # Atoms all move less than the step where many move at once; the largest motion counts.
    largest = float(np.linalg.norm(direction, axis=1).max())
    return ridders_derivative(energy, _STEP / largest)
