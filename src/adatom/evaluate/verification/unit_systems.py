"""Other units give the same physics (KIM: vc-unit-conversion)."""

from __future__ import annotations

import numpy as np

from adatom.evaluate.verification.comparison import Point, difference, evaluate
from adatom.evaluate.verification.records import Finding
from adatom.evaluate.verification.structures import distorted, some_of
from adatom.evaluate.verification.subject import Subject

#: KIM 2.3 converts with older constants of nature than ASE.
_CONSTANTS = 1e-6


def check_units(subject: Subject, rng: np.random.Generator) -> Finding:
    """Compute a distorted crystal in every system of units, and convert back."""
    if not subject.units:
        return Finding(passed=None, detail="It has one system of units: eV and angstrom.")
    calculator = subject.make()
    atoms = distorted(some_of(subject.species, rng), rng, lattice="fcc")
    expected = evaluate(calculator, atoms)
    subject.close(calculator)
    found = {
        name: difference(Point(*compute(atoms)), expected)
        for name, compute in subject.units.items()
    }
    limit = max(_CONSTANTS, subject.limits.same)
    worst = max(found, key=lambda name: found[name])
    passed = found[worst] <= limit
    detail = "" if passed else f"Results in {worst} differ."
    return Finding(passed=passed, value=found[worst], limit=limit, detail=detail)
