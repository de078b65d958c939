"""Element references: the part of the energy that is linear in the composition."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from adatom.core.errors import DataError, MissingLabelError
from adatom.data.atomic_data import AtomicData

#: Highest atomic number of a reference table (oganesson).
MAX_ATOMIC_NUMBER = 118


@dataclass(frozen=True, slots=True)
class ElementReferenceFit:
    """Least-squares energies of the elements and how much of the data they leave unexplained.

    Attributes:
        table: ``[max_z + 1]`` float64, eV per atom, indexed by atomic number; 0 for elements that
            are not in the data.
        elements: Atomic numbers that are in the data, ascending.
        rank: Rank of the composition matrix. Below ``len(elements)`` the table is the solution of
            minimum norm: its sums over the compositions of the data are determined, the single
            entries are not.
        num_systems: Systems with an energy, on which the fit was made.
        rmse_per_atom: Root mean square of the residual energy per atom, eV/atom.
        mae_per_atom: Mean absolute residual energy per atom, eV/atom.
    """

    table: torch.Tensor
    elements: tuple[int, ...]
    rank: int
    num_systems: int
    rmse_per_atom: float
    mae_per_atom: float

    @property
    def is_unique(self) -> bool:
        """Whether the data determine the energy of every element."""
        return self.rank == len(self.elements)


def fit_element_references(
    systems: Iterable[AtomicData], *, max_z: int = MAX_ATOMIC_NUMBER
) -> ElementReferenceFit:
    """Fit one energy per element, so that their sum over the atoms is nearest to the energy.

    Minimizes the sum over systems of ``(E - sum_Z n_Z e_Z)^2`` in float64. Where compositions do
    not determine the energies (one composition, or fixed ratios), the solution of minimum norm
    is taken. Systems without an energy do not enter.

    Args:
        systems: Systems (or batches) with the label ``energy`` in eV; read once.
        max_z: Highest atomic number of the table.

    Returns:
        The table ``[max_z + 1]`` and the residual errors.

    Raises:
        MissingLabelError: If no system has an energy.
        DataError: If an energy is not finite or an atomic number is outside ``1 .. max_z``.
    """
    rows: list[np.ndarray] = []
    energies: list[float] = []
    for system in systems:
        for single in system.unbatch() if system.num_systems > 1 else (system,):
            energy = _energy_of(single)
            if energy is not None:
                rows.append(_composition_of(single, max_z))
                energies.append(energy)
    if not energies:
        raise MissingLabelError(
            "No structure has the label 'energy', so element references cannot be fitted",
            expected="at least one structure with an energy",
            fix="Name the energy's key in the file with label_keys, e.g. energy: dft_energy",
        )
    counts = np.stack(rows)
    target = np.array(energies, dtype=np.float64)
    table, rank = solve_references(counts, target)
    per_atom = (target - counts @ table) / counts.sum(axis=1)
    return ElementReferenceFit(
        table=torch.from_numpy(table),
        elements=tuple(int(z) for z in np.flatnonzero(counts.any(axis=0))),
        rank=rank,
        num_systems=len(energies),
        rmse_per_atom=float(np.sqrt(np.mean(per_atom**2))),
        mae_per_atom=float(np.mean(np.abs(per_atom))),
    )


def solve_references(counts: np.ndarray, energies: np.ndarray) -> tuple[np.ndarray, int]:
    """Solve the least-squares problem of :func:`fit_element_references` on plain arrays.

    Args:
        counts: ``[B, Z]`` atoms of each element in each system.
        energies: ``[B]`` float64, eV.

    Returns:
        The table ``[Z]`` float64 in eV (0 for elements without atoms) and the rank.
    """
    unique, group = np.unique(counts, axis=0, return_inverse=True)
    return solve_grouped_references(unique, group.reshape(-1), energies)


def solve_grouped_references(
    unique: np.ndarray, group: np.ndarray, energies: np.ndarray
) -> tuple[np.ndarray, int]:
    """Solve the same problem where the systems of one composition are known.

    Rows of equal composition are merged: the same normal equations, far fewer rows.

    Args:
        unique: ``[U, Z]`` atoms of each element in each composition.
        group: ``[B]`` composition of each system; each of the U occurs.
        energies: ``[B]`` float64, eV.

    Returns:
        The table ``[Z]`` float64 in eV (0 for elements without atoms) and the rank.
    """
    multiplicity = np.bincount(group, minlength=len(unique)).astype(np.float64)
    mean = np.bincount(group, weights=energies, minlength=len(unique)) / multiplicity
    weight = np.sqrt(multiplicity)
    present = unique.any(axis=0)
    matrix = unique[:, present] * weight[:, None]
    solution, _, rank, _ = np.linalg.lstsq(matrix, mean * weight, rcond=None)
    table = np.zeros(unique.shape[1], dtype=np.float64)
    table[present] = solution
    return table, int(rank)


def _energy_of(system: AtomicData) -> float | None:
    label = system.labels.get("energy")
    if label is None:
        return None
    energy = float(label.reshape(-1)[0])
    if not np.isfinite(energy):
        raise DataError(
            f"The energy of structure {system.sid[0]!r} is {energy}",
            expected="a finite number in eV",
            fix="Remove the structure or correct its energy",
        )
    return energy


def _composition_of(system: AtomicData, max_z: int) -> np.ndarray:
    numbers = system.atomic_numbers.cpu().numpy()
    if numbers.size == 0 or numbers.min() < 1 or numbers.max() > max_z:
        found = "no atoms" if numbers.size == 0 else f"atomic number {_worst(numbers, max_z)}"
        raise DataError(
            f"Structure {system.sid[0]!r} has {found}",
            expected=f"atomic numbers from 1 to {max_z}",
        )
    return np.bincount(numbers, minlength=max_z + 1).astype(np.float64)


def _worst(numbers: np.ndarray, max_z: int) -> int:
    return int(numbers[(numbers < 1) | (numbers > max_z)][0])
