"""Predicted and reference values, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adatom.calculators.unit_of import require_energies
from adatom.core.console import progress
from adatom.data.atomic_data import AtomicData, collate
from adatom.inference.predict_unit import MLIPPredictUnit

Array = NDArray[np.float64]

#: Batches hold about this many atoms.
ATOMS_PER_BATCH = 500


@dataclass(slots=True)
class Pairs:
    """Predicted and reference values in the order of the structures.

    Attributes:
        energy: ``[S, 2]`` eV per atom (predicted, reference).
        baseline: ``[S]`` eV per atom; the potential's element references alone.
        forces: ``[n, 2, 3]`` eV/angstrom of all labelled atoms.
        stress: ``[s, 2, 9]`` eV/angstrom^3.
        numbers: ``[n]`` atomic number of each row of ``forces``.
        energy_structure: ``[S]`` index of the structure of each row of ``energy``.
        force_structure: ``[n]`` the same for ``forces``.
        stress_structure: ``[s]`` the same for ``stress``.
    """

    energy: Array
    baseline: Array
    forces: Array
    stress: Array
    numbers: NDArray[np.int64]
    energy_structure: NDArray[np.int64]
    force_structure: NDArray[np.int64]
    stress_structure: NDArray[np.int64]


def collect_pairs(
    unit: MLIPPredictUnit, systems: Sequence[AtomicData]
) -> tuple[Pairs, list[str], int]:
    """Predict what is labelled.

    Args:
        unit: The loaded potential.
        systems: Labelled structures.

    Returns:
        The pairs, the structures' ids and the number of atoms.

    Raises:
        ConfigError: If the potential predicts relaxed energies.
    """
    energy: list[Array] = []
    baseline: list[Array] = []
    forces: list[Array] = []
    stress: list[Array] = []
    numbers: list[NDArray[np.int64]] = []
    owners: dict[str, list[Array]] = {"energy": [], "forces": [], "stress": []}
    sids: list[str] = []
    num_atoms = 0
    with progress("Evaluating", len(systems)) as bar:
        for batch in _batches(systems):
            for dataset in set(batch.dataset):
                require_energies(unit, dataset)
            wanted = [name for name in ("energy", "forces", "stress") if name in batch.labels]
            predicted = unit.predict(batch, wanted) if wanted else {}
            out = {name: value.cpu().double() for name, value in predicted.items()}
            structure = len(sids) + np.arange(batch.num_systems)
            atoms_owner = np.repeat(structure, batch.natoms.numpy())
            if "energy" in wanted:
                pair = np.stack([out["energy"], batch.labels["energy"].double()], axis=1)
                pair = pair / batch.natoms.numpy()[:, None]
                rows = _keep(pair, structure, energy, owners["energy"])
                baseline.append(_reference_energies(unit, batch)[rows])
            if "forces" in wanted:
                pair = np.stack([out["forces"], batch.labels["forces"].double()], axis=1)
                rows = _keep(pair, atoms_owner, forces, owners["forces"])
                numbers.append(batch.atomic_numbers.numpy()[rows])
            if "stress" in wanted:
                pair = np.stack(
                    [out["stress"].flatten(1), batch.labels["stress"].double().flatten(1)], axis=1
                )
                _keep(pair, structure, stress, owners["stress"])
            sids += batch.sid
            num_atoms += batch.num_atoms
            bar.advance(batch.num_systems)
    pairs = Pairs(
        energy=_join(energy, (0, 2)),
        baseline=_join(baseline, (0,)),
        forces=_join(forces, (0, 2, 3)),
        stress=_join(stress, (0, 2, 9)),
        numbers=_join(numbers, (0,)).astype(np.int64),
        energy_structure=_join(owners["energy"], (0,)).astype(np.int64),
        force_structure=_join(owners["forces"], (0,)).astype(np.int64),
        stress_structure=_join(owners["stress"], (0,)).astype(np.int64),
    )
    return pairs, sids, num_atoms


def _reference_energies(unit: MLIPPredictUnit, batch: AtomicData) -> Array:
    """Return each structure's sum of element references, eV per atom."""
    each = unit.potential.reference_energies(batch)
    total = each.new_zeros(batch.num_systems).index_add(0, batch.batch, each)
    return np.asarray(total / batch.natoms)


def _keep(
    pair: Array, owner: NDArray[Any], values: list[Array], owners: list[Array]
) -> NDArray[np.bool_]:
    """Append the rows whose reference is given (absent labels are NaN in a batch)."""
    rows: NDArray[np.bool_] = np.asarray(np.isfinite(pair).all(axis=tuple(range(1, pair.ndim))))
    values.append(pair[rows])
    owners.append(owner[rows])
    return rows


def _join(parts: list[NDArray[Any]], empty: tuple[int, ...]) -> Array:
    return np.concatenate(parts) if parts else np.zeros(empty)


def _batches(systems: Sequence[AtomicData]) -> Iterator[AtomicData]:
    waiting: list[AtomicData] = []
    atoms = 0
    for system in systems:
        if waiting and atoms + system.num_atoms > ATOMS_PER_BATCH:
            yield collate(waiting)
            waiting, atoms = [], 0
        waiting.append(system)
        atoms += system.num_atoms
    yield collate(waiting)
