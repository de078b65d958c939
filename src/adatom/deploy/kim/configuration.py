"""Atoms as a KIM simulator gives them: unwrapped, with ghosts, without a cell."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.geometry import complete_cell

from adatom.core.errors import DataError, OutOfDomainError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Configuration:
    """All particles of one evaluation: the atoms first, then their periodic images.

    Attributes:
        species: ``[N]`` int64 codes of the model.
        coordinates: ``[N, 3]`` float64 in angstrom; differences need no cell.
        contributing: ``[N]`` bool; False for ghosts, which only surround the others.
        image_of: ``[N]`` int64; the atom that a particle is, or is an image of.
    """

    species: Integers
    coordinates: Floats
    contributing: npt.NDArray[np.bool_]
    image_of: Integers

    @property
    def num_atoms(self) -> int:
        """How many particles contribute."""
        return int(self.contributing.sum())

    def onto_atoms(self, values: Floats) -> Floats:
        """Add up values of particles ``[N, ...]`` by the atom they belong to: ``[atoms, ...]``."""
        folded = np.zeros((self.num_atoms, *values.shape[1:]))
        np.add.at(folded, self.image_of, values)
        return folded


def make_configuration(
    atoms: Atoms, species_codes: Mapping[str, int], influence_distance: float
) -> Configuration:
    """Surround atoms by those of their periodic images that can matter.

    Args:
        atoms: Any mixture of periodic directions; atoms may lie outside the cell.
        species_codes: Chemical symbol to the model's code.
        influence_distance: In angstrom: ghosts are kept up to here from some atom.

    Raises:
        OutOfDomainError: If an element has no code.
        DataError: If there are no atoms, or a periodic direction has no lattice vector.
    """
    if len(atoms) == 0:
        raise DataError("There are no atoms")
    symbols = atoms.get_chemical_symbols()
    unknown = sorted(set(symbols) - set(species_codes))
    if unknown:
        raise OutOfDomainError(
            f"The model does not know {', '.join(unknown)}",
            expected=f"only {', '.join(species_codes)}",
        )
    codes = np.array([species_codes[symbol] for symbol in symbols], dtype=np.int64)
    positions, images, shifts = _images(atoms, influence_distance)
    keep = _near(positions, shifts, influence_distance)
    index = np.concatenate([np.arange(len(atoms)), images[keep]])
    return Configuration(
        species=codes[index],
        coordinates=np.concatenate([positions, shifts[keep]]),
        contributing=np.arange(len(index)) < len(atoms),
        image_of=index,
    )


def _images(atoms: Atoms, distance: float) -> tuple[Floats, Integers, Floats]:
    """Return wrapped positions, and atoms and positions of images in a parallelepiped."""
    periodic = np.asarray(atoms.pbc, dtype=bool)
    given = np.asarray(atoms.cell.array, dtype=np.float64)
    if (np.linalg.norm(given[periodic], axis=1) == 0).any():
        raise DataError("A periodic direction has no lattice vector", fix="Set the cell.")
    cell: Floats = complete_cell(given)
    inverse = np.linalg.inv(cell)
    # A column of the inverse is the normal of two lattice planes, divided by their distance.
    reach = distance * np.linalg.norm(inverse, axis=0)
    fractions = np.asarray(atoms.positions, dtype=np.float64) @ inverse
    fractions -= np.where(periodic, np.floor(fractions), 0.0)
    low, high = fractions.min(axis=0), fractions.max(axis=0)
    last = np.where(periodic, np.ceil(reach + high - low), 0).astype(int)
    found_atoms, found = [], []
    for shift in itertools.product(*(range(-n, n + 1) for n in last)):
        moved = fractions + shift
        inside = ((moved >= low - reach) & (moved <= high + reach)).all(axis=1)
        if any(shift) and inside.any():
            found_atoms.append(np.flatnonzero(inside))
            found.append(moved[inside])
    empty = (np.zeros(0, dtype=np.int64), np.zeros((0, 3)))
    images = np.concatenate([empty[0], *found_atoms])
    shifted = np.concatenate([empty[1], *found])
    return fractions @ cell, images, shifted @ cell


def _near(positions: Floats, images: Floats, distance: float) -> Integers:
    """Return which images are within a distance of some atom."""
    from scipy.spatial import cKDTree

    if len(images) == 0:
        return np.zeros(0, dtype=np.int64)
    # A hair more than the distance: which pairs count is decided later, by the cutoff.
    nearest, _ = cKDTree(positions).query(images, distance_upper_bound=distance * (1 + 1e-9))
    return np.flatnonzero(np.isfinite(nearest))
