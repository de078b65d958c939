"""Periodic boundary conditions are what they say (KIM: vc-periodicity-support)."""

from __future__ import annotations

from itertools import product

import numpy as np

from adatom.evaluate.verification.comparison import Point, difference, evaluate, same
from adatom.evaluate.verification.records import Finding
from adatom.evaluate.verification.structures import distorted, some_of
from adatom.evaluate.verification.subject import Subject


def check_periodicity(subject: Subject, rng: np.random.Generator) -> Finding:
    """Repeat a distorted cell along its periodic axes: energies add up, copies have equal forces.

    All seven combinations of periodic directions; atoms are also moved by lattice vectors, which
    changes nothing.
    """
    calculator = subject.make()
    worst = 0.0
    cell = distorted(some_of(subject.species, rng), rng, lattice="fcc")
    for periodic in product((False, True), repeat=3):
        if not any(periodic):
            continue
        atoms = cell.copy()
        atoms.pbc = periodic
        once = evaluate(calculator, atoms)
        repeat = [2 if each else 1 for each in periodic]
        copies = int(np.prod(repeat))
        expected = Point(copies * once.energy, np.tile(once.forces, (copies, 1)))
        worst = max(worst, difference(evaluate(calculator, atoms * repeat), expected))
        moved = atoms.copy()
        shifts = rng.integers(-2, 3, (len(atoms), 3)) * np.array(periodic)
        moved.positions = moved.positions + shifts @ atoms.cell.array
        worst = max(worst, difference(evaluate(calculator, moved), once))
    subject.close(calculator)
    return same(subject, worst, "A repeated cell, or atoms moved by lattice vectors, differ.")
