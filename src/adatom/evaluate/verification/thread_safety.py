"""Threads get the numbers that one thread gets (KIM: vc-thread-safe)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from adatom.evaluate.verification.comparison import Point, evaluate
from adatom.evaluate.verification.records import Finding
from adatom.evaluate.verification.structures import distorted, some_of
from adatom.evaluate.verification.subject import Subject

_THREADS, _CYCLES = 4, 5


def check_threads(subject: Subject, rng: np.random.Generator) -> Finding:
    """Compute different structures in four threads at once, five times: identical results."""
    make = subject.for_threads or (lambda count: [subject.make() for _ in range(count)])
    calculators = make(_THREADS)
    species = some_of(subject.species, rng)
    systems = [
        distorted(species, rng, lattice="fcc", repeat=(1 + i % 2, 1, 1)) for i in range(_THREADS)
    ]
    alone = _in_turn(calculators, systems)
    again = _in_turn(calculators, systems)
    with ThreadPoolExecutor(_THREADS) as pool:
        together = [list(pool.map(evaluate, calculators, systems)) for _ in range(_CYCLES)]
    for calculator in calculators:
        subject.close(calculator)
    if _largest(again, alone) > 0:
        detail = "Results differ from call to call already without threads."
        return Finding(passed=False, value=_largest(again, alone), limit=0.0, detail=detail)
    worst = max(_largest(found, alone) for found in together)
    detail = "Threads disturb each other." if worst > 0 else ""
    return Finding(passed=worst == 0, value=worst, limit=0.0, detail=detail)


def _in_turn(calculators: Sequence[Calculator], systems: Sequence[Atoms]) -> list[Point]:
    return [evaluate(*each) for each in zip(calculators, systems, strict=True)]


def _largest(found: list[Point], expected: list[Point]) -> float:
    """Return the largest difference of any energy or force, absolutely."""
    return max(
        max(abs(a.energy - b.energy), float(np.abs(a.forces - b.forces).max()))
        for a, b in zip(found, expected, strict=True)
    )
