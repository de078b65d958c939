"""Crystals of any number of atoms, to measure speed on."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk


def get_fcc_crystal_by_num_atoms(
    num_atoms: int, lattice_constant: float = 3.8, atom_type: str = "C", *, seed: int = 0
) -> Atoms:
    """Build a cube of primitive fcc cells and remove atoms at random until ``num_atoms`` remain.

    Args:
        num_atoms: At least 1.
        lattice_constant: Of the cubic cell, in angstrom; 3.8 with carbon gives about 50 edges per
            atom within 6 angstrom.
        atom_type: Element symbol.
        seed: Chooses the removed atoms; the global random state is not used.

    Returns:
        A periodic crystal with ``info`` ``{"charge": 0, "spin": 0}``.
    """
    repeats = 1
    while repeats**3 < num_atoms:
        repeats += 1
    crystal = bulk(atom_type, "fcc", a=lattice_constant) * (repeats, repeats, repeats)
    kept = np.random.default_rng(seed).permutation(len(crystal))[:num_atoms]
    atoms: Atoms = crystal[np.sort(kept)]
    atoms.info = {"charge": 0, "spin": 0}
    return atoms


def get_fcc_carbon_xtal(num_atoms: int, lattice_constant: float = 3.8, *, seed: int = 0) -> Atoms:
    """Build fcc carbon of ``num_atoms`` atoms; see :func:`get_fcc_crystal_by_num_atoms`."""
    return get_fcc_crystal_by_num_atoms(num_atoms, lattice_constant, "C", seed=seed)


def get_fcc_crystal_by_num_cells(
    n_cells: int, atom_type: str = "Cu", lattice_constant: float = 3.61
) -> Atoms:
    """Build a cube of ``n_cells ** 3`` cubic fcc cells, four atoms each.

    Args:
        n_cells: Cells along each direction.
        atom_type: Element symbol.
        lattice_constant: In angstrom.
    """
    atoms: Atoms = bulk(atom_type, "fcc", a=lattice_constant, cubic=True) * (
        n_cells,
        n_cells,
        n_cells,
    )
    atoms.info = {"charge": 0, "spin": 0}
    return atoms
