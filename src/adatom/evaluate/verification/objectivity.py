"""Moving and turning the whole system changes nothing (KIM: vc-objectivity)."""

from __future__ import annotations

import numpy as np

from adatom.evaluate.verification.comparison import Point, difference, evaluate, same
from adatom.evaluate.verification.records import Finding
from adatom.evaluate.verification.structures import cluster, distorted, rotation, some_of
from adatom.evaluate.verification.subject import Subject

_REPETITIONS = 3


def check_objectivity(subject: Subject, rng: np.random.Generator) -> Finding:
    """Rotate and translate distorted body-centered cells: same energy, forces turn along."""
    calculator = subject.make()
    species = some_of(subject.species, rng)
    crystal = distorted(species, rng, lattice="bcc", repeat=(2, 1, 1))
    group = cluster(species, rng, lattice="bcc", repeat=(2, 2, 1))
    worst = 0.0
    for atoms in (crystal, group):
        expected = evaluate(calculator, atoms)
        for _ in range(_REPETITIONS):
            turn = rotation(rng)
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ turn.T)
            # Irrational in any unit: no grid of the potential's can share it.
            moved.positions = atoms.positions @ turn.T + np.pi * rng.normal(size=3)
            found = evaluate(calculator, moved)
            turned = Point(expected.energy, expected.forces @ turn.T)
            worst = max(worst, difference(found, turned))
    subject.close(calculator)
    return same(subject, worst, "A turned or moved system has other energies or forces.")
