"""Structures to measure on, the same for both programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.build import bulk
from ase.io import read, write

from benchmarks.shapes import RMSD

#: Angstrom; every call sees new positions, as in dynamics.
_MOTION = 1e-3


def load_structure(path: str | Path) -> Atoms:
    """Read one structure with its charge, spin and task."""
    atoms: Any = read(path, index=0)
    return atoms  # type: ignore[no-any-return]


def load_all(path: str | Path) -> list[Atoms]:
    """Read all structures of a file with their charges, spins and tasks."""
    found: Any = read(path, index=":")
    return found  # type: ignore[no-any-return]


def carbon(path: Path, repeats: int) -> Path:
    """Write an fcc carbon crystal (a = 3.8 angstrom) of ``4 * repeats**3`` atoms and its task.

    The density is that of the crystals that fairchem-core's own benchmarks use.
    """
    atoms: Any = bulk("C", "fcc", a=3.8, cubic=True) * (repeats, repeats, repeats)
    atoms.rattle(0.05, seed=1)
    atoms.info |= {"charge": 0, "spin": 0, "task": "omat"}
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, atoms)
    return path


def moved(atoms: Atoms, number: int) -> Atoms:
    """Return the structure of call ``number``: the original for 0, else slightly displaced."""
    copy: Any = atoms.copy()
    if number:
        generator = np.random.default_rng(number)
        copy.positions += generator.uniform(-_MOTION, _MOTION, copy.positions.shape)
    return copy  # type: ignore[no-any-return]


def load_labeled(path: str | Path, count: int) -> list[Atoms]:
    """Read the first ``count`` labeled structures."""
    found: Any = read(path, index=f":{count}")
    return found  # type: ignore[no-any-return]


def training_targets(
    structures: list[Atoms],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return energies ``[B]`` and forces ``[N, 3]`` in network units.

    The mean energy per atom is taken off, so that a fresh network starts near the target.
    """
    sizes = np.array([len(atoms) for atoms in structures], dtype=np.float64)
    energies = np.array([_energy(atoms) for atoms in structures])
    energies = (energies - energies.sum() / sizes.sum() * sizes) / RMSD
    forces = np.concatenate([_forces(atoms) for atoms in structures])
    return energies, forces / RMSD


def _energy(atoms: Atoms) -> float:
    if atoms.calc is not None and "energy" in atoms.calc.results:
        return float(atoms.calc.results["energy"])
    return float(atoms.info["energy"])


def _forces(atoms: Atoms) -> npt.NDArray[np.float64]:
    if atoms.calc is not None and "forces" in atoms.calc.results:
        return np.asarray(atoms.calc.results["forces"], dtype=np.float64)
    return np.asarray(atoms.arrays["forces"], dtype=np.float64)
