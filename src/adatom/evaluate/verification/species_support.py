"""Every species is supported as stated (KIM: vc-species-supported-as-stated)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms

from adatom.evaluate.verification.comparison import evaluate
from adatom.evaluate.verification.records import Finding
from adatom.evaluate.verification.subject import Subject

#: Angstrom: atoms of a cluster lie in a ball of this radius, no closer than the distance.
_RADIUS, _DISTANCE = 1.5, 1.0
_SAMPLES = 10
_LARGEST = 4
#: With many species, not all combinations are computed, but each species in this many clusters.
_MOST_CLUSTERS = 350
_PER_SPECIES = 4


def check_species(subject: Subject, rng: np.random.Generator) -> Finding:
    """Compute random clusters of up to four atoms; every species must be in one that succeeds.

    A lone atom does not count: many potentials give it nothing, whatever it is.
    """
    calculator = subject.make()
    succeeded: set[str] = set()
    reasons: dict[str, str] = {}
    clusters = failures = 0
    for atoms in _clusters(list(subject.species), rng):
        clusters += 1
        try:
            evaluate(calculator, atoms)
        except Exception as error:  # noqa: BLE001 - whatever a calculator raises is a finding
            failures += 1
            for symbol in set(atoms.symbols):
                reasons.setdefault(symbol, str(error))
        else:
            succeeded |= set(atoms.symbols) if len(atoms) > 1 else set()
    subject.close(calculator)
    missing = [symbol for symbol in subject.species if symbol not in succeeded]
    if missing:
        detail = f"{', '.join(missing)} never worked: {reasons[missing[0]]}"
    else:
        detail = f"{failures} of {clusters} clusters failed" if failures else ""
    return Finding(passed=not missing, value=float(len(missing)), limit=0.0, detail=detail)


def _clusters(species: list[str], rng: np.random.Generator) -> Iterator[Atoms]:
    combinations = [
        each
        for size in range(1, _LARGEST + 1)
        for each in _some_combinations(species, size, _MOST_CLUSTERS)
    ]
    samples = min(_SAMPLES, _MOST_CLUSTERS // len(combinations))
    if samples == 0:
        # Too many: the species take turns, with random companions.
        samples = 1
        combinations = [
            (symbol, *rng.choice(species, int(rng.integers(0, _LARGEST))).tolist())
            for symbol in species
            for _ in range(_PER_SPECIES)
        ]
    for symbols in combinations:
        for _ in range(samples):
            yield Atoms(list(symbols), _in_a_ball(len(symbols), rng))


def _some_combinations(species: list[str], size: int, most: int) -> list[tuple[str, ...]]:
    """Return combinations, at most one more than ``most``: there are millions of some."""
    found = []
    for each in combinations_with_replacement(species, size):
        found.append(each)
        if len(found) > most:
            break
    return found


def _in_a_ball(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return points by rejection: all distances are large enough at once, or all is drawn anew."""
    while True:
        points = rng.uniform(-_RADIUS, _RADIUS, (count, 3))
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
        apart = (distances + _DISTANCE * np.eye(count) >= _DISTANCE).all()
        if apart and (np.linalg.norm(points, axis=1) <= _RADIUS).all():
            return points
