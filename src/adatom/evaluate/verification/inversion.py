"""A mirror image has the same energy (KIM: vc-inversion-symmetry)."""

from __future__ import annotations

import numpy as np

from adatom.evaluate.verification.comparison import Point, difference, evaluate, same
from adatom.evaluate.verification.records import Finding
from adatom.evaluate.verification.structures import cluster, distorted, some_of
from adatom.evaluate.verification.subject import Subject


def check_inversion(subject: Subject, rng: np.random.Generator) -> Finding:
    """Invert distorted systems through a point: same energy, forces change their sign."""
    calculator = subject.make()
    species = some_of(subject.species, rng)
    worst = 0.0
    for atoms in (
        distorted(species, rng, lattice="bcc", repeat=(2, 1, 1)),
        cluster(species, rng, lattice="diamond"),
    ):
        expected = evaluate(calculator, atoms)
        mirrored = atoms.copy()
        # A lattice is its own mirror image.
        mirrored.positions = np.sqrt(2) * rng.normal(size=3) - atoms.positions
        found = evaluate(calculator, mirrored)
        worst = max(worst, difference(found, Point(expected.energy, -expected.forces)))
    subject.close(calculator)
    return same(subject, worst, "The mirror image has another energy or other forces.")
