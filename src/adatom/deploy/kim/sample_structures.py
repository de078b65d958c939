"""Small structures of every kind that an exported model is compared on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from ase import Atoms

#: Neighbors of an atom on average. Few, because the ghosts of a network with n layers are n^3
#: times as many.
_NEIGHBORS = 10
#: Least distance of two atoms, in cutoffs.
_APART = 0.25
#: Name, formula units, periodic directions, and how far the cell is from orthogonal.
_KINDS = (
    ("bulk", 3, (True, True, True), 0.0),
    ("triclinic cell", 2, (True, True, True), 0.3),
    ("slab", 3, (True, True, False), 0.1),
    ("chain", 1, (False, False, True), 0.0),
    ("cluster", 4, (False, False, False), 0.0),
    ("small cell", 1, (True, True, True), 0.2),
)


def sample_structures(
    formula: Sequence[str], cutoff: float, *, seed: int = 13, repeats: bool = True
) -> dict[str, Atoms]:
    """Draw random structures of one composition.

    Args:
        formula: Symbols of one formula unit.
        cutoff: In angstrom; sets the density, so that every kind has neighbors and small cells
            see several images of themselves.
        seed: The same one gives the same structures.
        repeats: Whether there may be several formula units.

    Returns:
        Structures by kind.
    """
    generator = np.random.default_rng(seed)
    found = {}
    for name, units, periodic, skew in _KINDS:
        symbols = list(formula) * (units if repeats else 1)
        found[name] = _structure(symbols, periodic, skew, cutoff, generator)
    return found


def _structure(
    symbols: list[str],
    periodic: tuple[bool, bool, bool],
    skew: float,
    cutoff: float,
    generator: np.random.Generator,
) -> Atoms:
    volume = len(symbols) * 4 / 3 * math.pi * cutoff**3 / _NEIGHBORS
    stretched = np.diag(generator.uniform(0.85, 1.15, 3)) + skew * generator.uniform(-1, 1, (3, 3))
    cell = stretched * (volume / abs(np.linalg.det(stretched))) ** (1 / 3)
    atoms = Atoms(symbols, cell=cell, pbc=periodic)
    atoms.set_scaled_positions(generator.uniform(-0.2, 1.2, (len(symbols), 3)))
    for _ in range(1000):
        distances = atoms.get_all_distances(mic=True) + 2 * cutoff * np.eye(len(atoms))
        close = np.flatnonzero((distances < _APART * cutoff).any(axis=1))
        if len(close) == 0:
            break
        atoms.positions[close[0]] += generator.uniform(-1.0, 1.0, 3)
    return atoms
