"""Distorted crystals and clusters of any elements, at distances that these have in solids.

KIM's checks use fixed lattice constants, which press some elements together and tear others apart;
here the nearest distance is made of covalent radii.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, covalent_radii

#: Nearest distances in the crystals of metals, in covalent diameters, about.
_STRETCH = 1.1
#: Nearest distance of a cubic cell with lattice constant 1.
_NEAREST = {"fcc": 1 / np.sqrt(2), "bcc": np.sqrt(3) / 2, "diamond": np.sqrt(3) / 4}
#: Random species when there are more than this many.
_MOST_SPECIES = 3


def nearest_distance(species: Sequence[str]) -> float:
    """Return a usual distance of neighbors in angstrom, the mean over the species."""
    radii = [max(covalent_radii[atomic_numbers[symbol]], 0.4) for symbol in species]
    return float(2 * _STRETCH * np.mean(radii))


def some_of(species: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Return all species, or a few at random where there are many."""
    if len(species) <= _MOST_SPECIES:
        return list(species)
    return sorted(rng.choice(list(species), _MOST_SPECIES, replace=False).tolist())


def distorted(
    species: Sequence[str],
    rng: np.random.Generator,
    *,
    lattice: Literal["fcc", "bcc", "diamond"],
    repeat: tuple[int, int, int] = (1, 1, 1),
    amplitude: float = 0.08,
) -> Atoms:
    """Return cubic cells whose atoms are moved at random.

    Args:
        species: Chemical symbols; the atoms take turns, in random order.
        rng: Random numbers.
        lattice: Of the perfect crystal.
        repeat: How many cubic cells in each direction.
        amplitude: Largest motion along each axis, in units of the nearest distance.
    """
    nearest = nearest_distance(species)
    constant = nearest / _NEAREST[lattice]
    atoms: Atoms = bulk("Si", lattice, a=constant, cubic=True) * repeat
    symbols = [species[i % len(species)] for i in range(len(atoms))]
    atoms.symbols = rng.permutation(symbols)
    shifts = rng.uniform(-1, 1, (len(atoms), 3)) * amplitude * nearest
    atoms.positions = atoms.positions + shifts
    return atoms


def cluster(
    species: Sequence[str],
    rng: np.random.Generator,
    *,
    lattice: Literal["fcc", "bcc", "diamond"],
    repeat: tuple[int, int, int] = (1, 1, 1),
) -> Atoms:
    """Return the atoms of :func:`distorted` without periodicity and without a cell."""
    atoms = distorted(species, rng, lattice=lattice, repeat=repeat)
    return Atoms(atoms.symbols, atoms.positions)


def rotation(rng: np.random.Generator) -> np.ndarray:
    """Return a random proper rotation ``[3, 3]``."""
    matrix, upper = np.linalg.qr(rng.normal(size=(3, 3)))
    matrix = matrix * np.sign(np.diag(upper))
    matrix[:, 0] *= np.sign(np.linalg.det(matrix))
    return np.asarray(matrix)
