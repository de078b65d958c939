"""The order of atoms does not matter (KIM: vc-permutation-symmetry)."""

from __future__ import annotations

import numpy as np

from adatom.evaluate.verification.comparison import Point, difference, evaluate, same
from adatom.evaluate.verification.records import Finding
from adatom.evaluate.verification.structures import cluster, some_of
from adatom.evaluate.verification.subject import Subject

_REPETITIONS = 5


def check_permutation(subject: Subject, rng: np.random.Generator) -> Finding:
    """Reorder a distorted cluster of diamond: same energy, forces go with the atoms."""
    calculator = subject.make()
    atoms = cluster(some_of(subject.species, rng), rng, lattice="diamond", repeat=(2, 1, 1))
    expected = evaluate(calculator, atoms)
    worst = 0.0
    for _ in range(_REPETITIONS):
        order = rng.permutation(len(atoms))
        found = evaluate(calculator, atoms[order])
        worst = max(worst, difference(found, Point(expected.energy, expected.forces[order])))
    subject.close(calculator)
    return same(subject, worst, "Atoms in another order give other energies or forces.")
