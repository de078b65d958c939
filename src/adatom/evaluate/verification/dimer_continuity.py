"""Energies and forces of pairs have no steps, above all at the cutoff (KIM: vc-dimer-continuity).

Intervals of the distance are halved where the second differences are largest. Those of a smooth
function fall with each halving; that of a step stays, until the interval is tiny.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from adatom.evaluate.verification.comparison import evaluate
from adatom.evaluate.verification.records import Finding
from adatom.evaluate.verification.structures import nearest_distance
from adatom.evaluate.verification.subject import Limits, Subject

#: Angstrom: scanned to here where no cutoff is known, and so far beyond one that is.
_FARTHEST, _BEYOND = 9.0, 0.5
#: From this part of the usual distance of neighbors.
_CLOSEST = 0.6
_GRID = 0.1
#: Angstrom: an interval that is still no smoother at this width holds a step.
_TINY = 1e-7
_MOST_POINTS = 450
_MOST_PAIRS = 4

#: Distance to energy (eV) and force along the bond (eV/angstrom, positive pushes apart).
Curve = Callable[[float], tuple[float, float]]


@dataclass(frozen=True, order=True)
class _Interval:
    """Sorted by how rough it is: the most negative number first."""

    smoothness: float
    low: float
    high: float


@dataclass(frozen=True)
class Step:
    """The largest step that was found: eV, eV/angstrom, and the distance in angstrom."""

    energy: float = 0.0
    force: float = 0.0
    distance: float = float("nan")


def check_dimers(subject: Subject, rng: np.random.Generator) -> Finding:
    """Look for steps of energy or force over the distance of two atoms."""
    calculator = subject.make()
    pairs = list(combinations_with_replacement(subject.species, 2))
    if len(pairs) > _MOST_PAIRS:
        pairs = [pairs[i] for i in sorted(rng.choice(len(pairs), _MOST_PAIRS, replace=False))]
    limits, worst, detail = subject.limits, 0.0, ""
    for pair in pairs:
        far = _FARTHEST if subject.cutoff is None else subject.cutoff + _BEYOND
        curve = _curve(calculator, pair, rng)
        step = largest_step(curve, _grid(_CLOSEST * nearest_distance(pair), far, subject), limits)
        size = max(step.energy / limits.energy_jump, step.force / limits.force_jump)
        if size > worst:
            worst = size
            detail = (
                f"{'-'.join(pair)} steps by {step.energy:.2g} eV and {step.force:.2g} eV/angstrom "
                f"at {step.distance:.6g} angstrom"
            )
    subject.close(calculator)
    return Finding(
        passed=worst <= 1,
        value=worst * limits.force_jump,
        limit=limits.force_jump,
        unit="eV/angstrom",
        detail=detail if worst > 1 else "",
    )


def largest_step(curve: Curve, grid: list[float], limits: Limits) -> Step:
    """Return the largest step of a curve, relative to the limits.

    Args:
        curve: Energy and force at a distance.
        grid: Distances to begin with, ascending.
        limits: Steps below them are not looked for.
    """
    known: dict[float, tuple[float, float]] = {}

    def at(distance: float) -> tuple[float, float]:
        if distance not in known:
            known[distance] = curve(distance)
        return known[distance]

    def measured(low: float, high: float) -> _Interval:
        energy, force = _roughness(at, low, high)
        return _Interval(-max(energy / limits.energy_jump, force / limits.force_jump), low, high)

    waiting = [measured(low, high) for low, high in pairwise(grid)]
    heapq.heapify(waiting)
    found, size = Step(), 1.0
    while waiting and len(known) < _MOST_POINTS:
        interval = heapq.heappop(waiting)
        if -interval.smoothness <= size:
            break
        if interval.high - interval.low < _TINY:
            energy, force = _roughness(at, interval.low, interval.high)
            found, size = Step(energy, force, interval.low), -interval.smoothness
            continue
        middle = (interval.low + interval.high) / 2
        heapq.heappush(waiting, measured(interval.low, middle))
        heapq.heappush(waiting, measured(middle, interval.high))
    return found


def _roughness(at: Curve, low: float, high: float) -> tuple[float, float]:
    """Return what in an interval is not explained by a straight line of the force."""
    middle = (low + high) / 2
    energies, forces = zip(*(at(each) for each in (low, middle, high)), strict=True)
    # The energy must be minus the integral of the force; Simpson's rule integrates it.
    integral = (high - low) * (forces[0] + 4 * forces[1] + forces[2]) / 6
    force = abs(forces[0] - 2 * forces[1] + forces[2])
    return abs(energies[2] - energies[0] + integral), force


def _grid(closest: float, farthest: float, subject: Subject) -> list[float]:
    count = max(2, int(np.ceil((farthest - closest) / _GRID)))
    grid = set(np.linspace(closest, farthest, count + 1).tolist())
    if subject.cutoff is not None:
        # The cutoff lies inside of one interval, not at an end that belongs to one side.
        grid |= {subject.cutoff - 1e-5, subject.cutoff + 1.1e-5}
    return sorted(grid)


def _curve(calculator: Calculator, pair: tuple[str, str], rng: np.random.Generator) -> Curve:
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)

    def curve(distance: float) -> tuple[float, float]:
        atoms = Atoms(list(pair), np.array([0.0 * direction, distance * direction]))
        point = evaluate(calculator, atoms)
        return point.energy, float(point.forces[1] @ direction)

    return curve
