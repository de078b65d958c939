"""Where labelled structures come from, and what a potential must know about them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from adatom.core.errors import DataError, MissingLabelError
from adatom.data.atomic_data import AtomicData
from adatom.data.element_references import fit_element_references
from adatom.data.open_dataset import open_dataset
from adatom.tasks.domain import Domain


@dataclass(slots=True, kw_only=True)
class DataSource:
    """One data file, or several, of one level of theory.

    Attributes:
        path: A file or folder, or a list of them.
        dataset: Name of the level of theory. Sources of the same name share their element
            references.
        label_keys: From ``energy``, ``forces``, ``stress`` to the key in the file; null finds the
            usual names.
        units: From ``energy``, ``forces``, ``stress``, ``length`` to a unit; null means what the
            file declares, else eV and angstrom.
        index: Which structures of each file, such as ``"::10"``; null means all.
        key_map: Names of other things in the file, such as ``atomic_numbers`` and ``pos`` of an
            npz; see :func:`adatom.data.open_dataset`.
    """

    path: str | list[str]
    dataset: str = "default"
    label_keys: dict[str, str] | None = None
    units: dict[str, str] | None = None
    index: str | None = None
    key_map: dict[str, str] | None = None


@dataclass(slots=True)
class Structures:
    """Structures in memory, with what is known about the files they came from.

    Attributes:
        systems: Single systems without edges.
        fingerprints: One per source.
    """

    systems: list[AtomicData] = field(default_factory=list)
    fingerprints: list[dict[str, Any]] = field(default_factory=list)


def read_sources(sources: Sequence[DataSource]) -> Structures:
    """Read every structure of every source into memory, in order.

    Raises:
        DataError: If a structure is not usable, or two of one dataset share an id.
        FileAccessError: If a file cannot be read.
    """
    found = Structures()
    for source in sources:
        opened = open_dataset(
            source.path,
            dataset=source.dataset,
            label_keys=source.label_keys,
            units=source.units,
            key_map=source.key_map,
            index=source.index,
        )
        found.systems += [opened[i] for i in range(len(opened))]
        found.fingerprints.append(opened.fingerprint())
    return found


def split_off(systems: Sequence[AtomicData], fraction: float, seed: int) -> list[int]:
    """Return the sorted indices of a random part of the structures of each dataset.

    Structures with the same composition and energy per atom (to 0.01 meV) stay together: they are
    most likely one structure in several orientations, which would flatter the validation.

    Args:
        systems: Single systems.
        fraction: In [0, 1); at least one structure of each dataset unless 0.
        seed: Decides which.

    Raises:
        DataError: If a dataset would keep nothing.
    """
    chosen: list[int] = []
    for dataset in sorted({system.dataset[0] for system in systems}) if fraction > 0.0 else ():
        rows = [i for i, system in enumerate(systems) if system.dataset[0] == dataset]
        twins: dict[Hashable, list[int]] = {}
        for i in rows:
            twins.setdefault(_identity(systems[i], i), []).append(i)
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


def _identity(system: AtomicData, index: int) -> Hashable:
    label = system.labels.get("energy")
    if label is None:
        return index
    composition = tuple(sorted(Counter(system.atomic_numbers.tolist()).items()))
    divisor = math.gcd(*(count for _, count in composition))
    reduced = tuple((z, count // divisor) for z, count in composition)
    return reduced, round(float(label.reshape(-1)[0]) / system.num_atoms, 5)


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
    """

    references: torch.Tensor | None
    references_unique: bool
    scale: float
    domain: Domain
    labelled: Mapping[str, int]
    count: int


def gather_facts(systems: Sequence[AtomicData], *, shared_scale: bool) -> dict[str, DatasetFacts]:
    """Fit element references and scales for each dataset.

    Args:
        systems: Training structures of all datasets.
        shared_scale: One scale for all datasets, from all forces together.

    Returns:
        By dataset name, sorted.
    """
    names = sorted({system.dataset[0] for system in systems})
    by_name = {name: [s for s in systems if s.dataset[0] == name] for name in names}
    common = force_rms(systems) if shared_scale else None
    return {name: _facts(part, common) for name, part in by_name.items()}


def force_rms(systems: Sequence[AtomicData]) -> float | None:
    """Return the RMS of the force components of free atoms, eV/angstrom; None if that is 0."""
    total, count = 0.0, 0
    for system in systems:
        if "forces" in system.labels:
            free = system.labels["forces"][~system.fixed].double()
            free = free[free.isfinite().all(dim=1)]
            total += float((free**2).sum())
            count += free.numel()
    return (total / count) ** 0.5 if total > 0.0 else None


def _facts(systems: list[AtomicData], common: float | None) -> DatasetFacts:
    labelled = {
        name: sum(name in system.labels for system in systems)
        for name in sorted({name for system in systems for name in system.labels})
    }
    if "energy" not in labelled:
        first = systems[0]
        raise MissingLabelError(
            f"No structure of dataset {first.dataset[0]!r} has the label 'energy'",
            expected=f"an energy beside {', '.join(labelled) or 'no labels'}",
            fix="Name the energy's key in the file with label_keys, e.g. energy: dft_energy.",
        )
    fit = fit_element_references(systems)
    scale = common or force_rms(systems) or fit.rmse_per_atom or 1.0
    domain = Domain(
        elements=fit.elements,
        charges=tuple(sorted({int(s.charge[0]) for s in systems})),
        spins=tuple(sorted({int(s.spin[0]) for s in systems})),
    )
    return DatasetFacts(fit.table, fit.is_unique, scale, domain, labelled, len(systems))
