"""What is in a dataset, as numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses, chemical_symbols

from adatom.data.atomic_data import AtomicData
from adatom.data.element_references import solve_references
from adatom.data.survey import Survey, survey

_GRAMS_PER_CM3 = 1.66053906660  # u / angstrom^3


@dataclass(frozen=True, slots=True)
class Spread:
    """Smallest, median, mean and largest value, and the standard deviation; NaN if no value."""

    min: float
    median: float
    mean: float
    max: float
    std: float

    @classmethod
    def of(cls, values: np.ndarray) -> Spread:
        """Summarize ``values``, leaving out NaN."""
        known = np.asarray(values, dtype=np.float64)
        known = known[np.isfinite(known)]
        if known.size == 0:
            nan = float("nan")
            return cls(nan, nan, nan, nan, nan)
        return cls(
            float(known.min()),
            float(np.median(known)),
            float(known.mean()),
            float(known.max()),
            float(known.std()),
        )


@dataclass(frozen=True, slots=True)
class DatasetStatistics:
    """Counts and spreads of a dataset; energies in eV, lengths in angstrom.

    Attributes:
        num_structures: Number of structures.
        num_atoms: Number of atoms in all of them.
        atoms_per_structure: Spread of the sizes.
        datasets: Structures per dataset name.
        elements: Symbol to (structures that contain it, atoms).
        num_compositions: Number of distinct compositions.
        labels: Structures per label name.
        pbc: Structures per periodicity, such as ``{"TTT": 10}``.
        charges: Structures per total charge.
        spins: Structures per multiplicity (0 = not given).
        num_fixed_atoms: Atoms held by constraints.
        energy_per_atom: eV/atom.
        residual_per_atom: eV/atom, after the least-squares fit of element references.
        force_rms: Root mean square force component of free atoms, eV/angstrom.
        force_max: Largest force norm per structure, eV/angstrom.
        net_force: Norm of the sum of all forces per structure, eV/angstrom.
        pressure: Minus a third of the stress trace, eV/angstrom^3.
        shortest_distance: Per structure, as far as within 5 (molecules: any) angstrom.
        volume_per_atom: angstrom^3, structures with three periodic axes.
        density: g/cm^3, structures with three periodic axes.
    """

    num_structures: int
    num_atoms: int
    atoms_per_structure: Spread
    datasets: dict[str, int]
    elements: dict[str, tuple[int, int]]
    num_compositions: int
    labels: dict[str, int]
    pbc: dict[str, int]
    charges: dict[int, int]
    spins: dict[int, int]
    num_fixed_atoms: int
    energy_per_atom: Spread
    residual_per_atom: Spread
    force_rms: float
    force_max: Spread
    net_force: Spread
    pressure: Spread
    shortest_distance: Spread
    volume_per_atom: Spread
    density: Spread


def dataset_statistics(systems: Sequence[AtomicData]) -> DatasetStatistics:
    """Read every structure once and summarize.

    Args:
        systems: Single structures.

    Raises:
        DataError: If there is no structure, or one has no atoms.
    """
    return statistics_of(survey(systems))


def statistics_of(columns: Survey) -> DatasetStatistics:
    """Summarize a survey; see :func:`dataset_statistics`."""
    structures = (columns.counts > 0).sum(axis=0)
    atoms = columns.counts.sum(axis=0)
    periodic = columns.pbc.all(axis=1) & (columns.volume != 0.0)
    volume = np.where(periodic, np.abs(columns.volume), np.nan)
    masses = columns.counts @ atomic_masses[: columns.counts.shape[1]]
    free = (columns.natoms - columns.num_fixed)[np.isfinite(columns.force_square)].sum()
    return DatasetStatistics(
        num_structures=len(columns),
        num_atoms=int(columns.natoms.sum()),
        atoms_per_structure=Spread.of(columns.natoms),
        datasets=dict(Counter(columns.dataset)),
        elements={
            chemical_symbols[z]: (int(structures[z]), int(atoms[z]))
            for z in np.flatnonzero(structures)
        },
        num_compositions=len(np.unique(columns.counts, axis=0)),
        labels=dict(sorted(Counter(name for row in columns.labels for name in row).items())),
        pbc=dict(Counter("".join("T" if axis else "F" for axis in row) for row in columns.pbc)),
        charges=_counts(columns.charge),
        spins=_counts(columns.spin),
        num_fixed_atoms=int(columns.num_fixed.sum()),
        energy_per_atom=Spread.of(columns.energy_per_atom),
        residual_per_atom=Spread.of(_residuals(columns)),
        force_rms=float(np.sqrt(np.nansum(columns.force_square) / (3 * free))) if free else np.nan,
        force_max=Spread.of(columns.force_max),
        net_force=Spread.of(columns.net_force),
        pressure=Spread.of(-columns.stress_trace),
        shortest_distance=Spread.of(columns.min_distance),
        volume_per_atom=Spread.of(volume / columns.natoms),
        density=Spread.of(masses / volume * _GRAMS_PER_CM3),
    )


def _counts(values: np.ndarray) -> dict[int, int]:
    unique, counts = np.unique(values, return_counts=True)
    return {int(value): int(count) for value, count in zip(unique, counts, strict=True)}


def _residuals(columns: Survey) -> np.ndarray:
    known = np.isfinite(columns.energy)
    if not known.any():
        return np.empty(0)
    counts = columns.counts[known].astype(np.float64)
    table, _ = solve_references(counts, columns.energy[known])
    return np.asarray((columns.energy[known] - counts @ table) / columns.natoms[known])
