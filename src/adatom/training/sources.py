"""Where labelled structures come from, and what a potential must know about them."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adatom.core.console import say
from adatom.core.errors import DataError, MissingLabelError
from adatom.data.atomic_data import AtomicData
from adatom.data.element_references import solve_grouped_references
from adatom.tasks.domain import Domain
from adatom.training.columns import Columns, Floats, columns_of, join
from adatom.training.data_source import DataSource, open_source
from adatom.training.index import index_of
from adatom.training.lazy_systems import LazySystems, too_large


@dataclass(slots=True)
class Structures:
    """Structures, with what is known about them and the files they came from.

    Attributes:
        systems: Single systems without edges, in memory or read when asked for.
        fingerprints: One per source.
        columns: One row per structure.
    """

    systems: list[AtomicData] | LazySystems
    fingerprints: list[dict[str, Any]]
    columns: Columns

    def take(self, rows: Sequence[int]) -> Structures:
        """Return some of the structures, with the same fingerprints."""
        chosen = np.array(rows, dtype=np.int64)
        systems = self.systems
        some = systems.take(chosen) if isinstance(systems, LazySystems) else _some(systems, rows)
        return Structures(some, self.fingerprints, self.columns.take(chosen))


def read_sources(
    sources: Sequence[DataSource],
    *,
    in_memory: bool | None = True,
    index_folder: Path | None = None,
    workers: int = 0,
) -> Structures:
    """Open every source, in order, and look at every structure once.

    Args:
        sources: What to read.
        in_memory: Keep the structures, or read each whenever it is asked for; None decides by
            their number and size.
        index_folder: Where an index of structures that are not kept is stored.
        workers: Processes that make the index.

    Raises:
        DataError: If a structure is not usable.
        FileAccessError: If a file cannot be read.
    """
    opened = [open_source(source) for source in sources]
    if in_memory is None:
        in_memory = not too_large(opened)
        if not in_memory:
            say("The structures are too large for the memory; each is read when it is needed.")
    if in_memory:
        systems = [source[i] for source in opened for i in range(len(source))]
        prints = [source.fingerprint() for source in opened]
        return Structures(systems, prints, columns_of(systems))
    indexes = [index_of(source, index_folder, workers=workers) for source in opened]
    for source in opened:
        source.trust()  # every structure was looked at for the index
    prints = [fingerprint for _, fingerprint in indexes]
    return Structures(LazySystems(opened), prints, join([columns for columns, _ in indexes]))


def _some(systems: Sequence[AtomicData], rows: Sequence[int]) -> list[AtomicData]:
    return [systems[row] for row in rows]


def split_off(columns: Columns, fraction: float, seed: int) -> list[int]:
    """Return the sorted indices of a random part of the structures of each dataset.

    Structures with the same composition and energy per atom (to 0.01 meV) stay together: they are
    most likely one structure in several orientations, which would flatter the validation.

    Args:
        columns: Of all structures.
        fraction: In [0, 1); at least one structure of each dataset unless 0.
        seed: Decides which.

    Raises:
        DataError: If a dataset would keep nothing.
    """
    chosen: list[int] = []
    identity = _identities(columns)
    for dataset in sorted(columns.datasets) if fraction > 0.0 else ():
        rows = np.flatnonzero(columns.dataset == columns.datasets.index(dataset)).tolist()
        twins: dict[Hashable, list[int]] = {}
        for i in rows:
            twins.setdefault(identity(i), []).append(i)
        groups = list(twins.values())
        wanted, taken = max(1, round(fraction * len(rows))), 0
        for k in np.random.default_rng(seed).permutation(len(groups)):
            if taken < wanted:
                chosen += groups[k]
                taken += len(groups[k])
        if taken >= len(rows):
            raise DataError(
                f"A fraction of {fraction} of the {len(rows)} structures of {dataset!r} leaves "
                "nothing to train on",
                fix="Set val_fraction to 0 or give more data.",
            )
    return sorted(chosen)


def _identities(columns: Columns) -> Callable[[int], Hashable]:
    divisors = np.gcd.reduce(columns.compositions, axis=1, keepdims=True)
    _, reduced = np.unique(columns.compositions // divisors, axis=0, return_inverse=True)
    formula = reduced.reshape(-1)[columns.composition]
    energies = columns.energy / columns.atoms

    def identity(row: int) -> Hashable:
        energy = float(energies[row])
        return row if math.isnan(energy) else (int(formula[row]), round(energy, 5))

    return identity


@dataclass(slots=True, frozen=True)
class DatasetFacts:
    """What the training structures of one dataset say.

    Attributes:
        references: ``[119]`` float64 eV per atom, or None if there are no energies.
        references_unique: Whether the data determine every entry of ``references``.
        scale: RMS of the force components of free atoms, eV/angstrom; where there are no forces
            (or all are zero), RMS of the energy per atom after the references, eV.
        domain: Elements, charges and spins.
        labelled: Label to the number of structures that have it.
        count: Number of structures.
        relaxed_references: As ``references``, of the relaxed energies.
        relaxed_scale: RMS of the relaxed energy of a structure after these references, eV, with
            as many degrees of freedom less as there are references; 1 where none is left.
    """

    references: torch.Tensor | None
    references_unique: bool
    scale: float
    domain: Domain
    labelled: Mapping[str, int]
    count: int
    relaxed_references: torch.Tensor | None = None
    relaxed_scale: float = 1.0


def gather_facts(columns: Columns, *, shared_scale: bool) -> dict[str, DatasetFacts]:
    """Fit element references and scales for each dataset.

    Args:
        columns: Of the training structures of all datasets.
        shared_scale: One scale for all datasets, from all forces together.

    Returns:
        By dataset name, sorted.

    Raises:
        MissingLabelError: If a dataset has neither energies nor relaxed energies.
    """
    common = force_rms(columns) if shared_scale else None
    facts = {}
    for name in sorted(columns.datasets):
        rows = np.flatnonzero(columns.dataset == columns.datasets.index(name))
        if len(rows):
            facts[name] = _facts(name, columns.take(rows), common)
    return facts


def force_rms(columns: Columns) -> float | None:
    """Return the RMS of the force components of free atoms, eV/angstrom; None if that is 0."""
    total, count = sum(columns.force_square.tolist()), int(columns.force_count.sum())
    return (total / count) ** 0.5 if total > 0.0 else None


def missing_energies(name: str, label: str, labelled: Mapping[str, int]) -> MissingLabelError:
    """Build the error for a dataset without the energies that a task of it needs.

    Args:
        name: Of the dataset.
        label: ``energy`` or ``relaxed_energy``.
        labelled: Labels that its structures have.
    """
    key = "energy_relaxed" if label == "relaxed_energy" else "dft_energy"
    return MissingLabelError(
        f"No structure of dataset {name!r} has the label {label!r}",
        expected=f"it beside {', '.join(labelled) or 'no labels'}",
        fix=f"Name its key in the file with label_keys, e.g. {label}: {key}.",
    )


def _facts(name: str, columns: Columns, common: float | None) -> DatasetFacts:
    counts = {label: int(columns.has(label).sum()) for label in sorted(columns.label_names)}
    labelled = {label: count for label, count in counts.items() if count}
    if not {"energy", "relaxed_energy"} & set(labelled):
        raise missing_energies(name, "energy", labelled)
    finite = np.isfinite(columns.energy) | np.isfinite(columns.relaxed_energy)
    used = np.unique(columns.composition[finite])
    elements = np.flatnonzero(columns.compositions[used].any(axis=0))
    own = _fit(columns, columns.energy)
    relaxed = _fit(columns, columns.relaxed_energy)
    domain = Domain(
        elements=tuple(int(z) for z in elements),
        charges=tuple(int(charge) for charge in np.unique(columns.charge)),
        spins=tuple(int(spin) for spin in np.unique(columns.spin)),
    )
    return DatasetFacts(
        references=own.table if own else None,
        references_unique=own is not None and own.rank == len(elements),
        scale=common or force_rms(columns) or (own.rms_per_atom if own else 0.0) or 1.0,
        domain=domain,
        labelled=labelled,
        count=len(columns),
        relaxed_references=relaxed.table if relaxed else None,
        relaxed_scale=relaxed.scale if relaxed else 1.0,
    )


@dataclass(slots=True, frozen=True)
class _Fit:
    """Element references and what they leave.

    Attributes:
        table: ``[119]`` float64 eV per atom.
        rank: Number of references that the data determine.
        rms_per_atom: Of the rest per atom, eV.
        scale: Estimate of the rest of a structure that was not among those fitted, eV.
    """

    table: torch.Tensor
    rank: int
    rms_per_atom: float
    scale: float


def _fit(columns: Columns, energies: Floats) -> _Fit | None:
    rows = np.flatnonzero(np.isfinite(energies))
    if not len(rows):
        return None
    known, energies = columns.take(rows), energies[rows]
    used, group = np.unique(known.composition, return_inverse=True)
    group = group.reshape(-1)
    unique = known.compositions[used].astype(np.float64)
    table, rank = solve_grouped_references(unique, group, energies)
    residual = energies - (unique @ table)[group]
    # What the fit leaves of its own structures says nothing where it has a reference for each.
    freedom = len(rows) - rank
    scale = float(np.sqrt((residual**2).sum() / freedom)) if freedom > 0 else 1.0
    rms_per_atom = float(np.sqrt(np.mean((residual / known.atoms) ** 2)))
    return _Fit(torch.from_numpy(table), rank, rms_per_atom, scale or 1.0)
