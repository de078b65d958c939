"""What a training must know of every structure before it begins, as plain columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from adatom.data.atomic_data import AtomicData
from adatom.data.element_references import MAX_ATOMIC_NUMBER

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Columns:
    """One row per structure (S), without positions; U different compositions.

    Attributes:
        datasets: Names that ``dataset`` numbers.
        dataset: ``[S]`` number of the dataset.
        compositions: ``[U, 119]`` atoms of each element.
        composition: ``[S]`` row of ``compositions``.
        energy: ``[S]`` eV, NaN without the label.
        relaxed_energy: ``[S]`` eV, NaN without the label.
        force_square: ``[S]`` sum of the squared force components of free atoms.
        force_count: ``[S]`` number of these components; 0 without the label.
        charge: ``[S]``.
        spin: ``[S]`` multiplicity, 0 if not given.
        label_names: Names that the bits of ``labels`` stand for.
        labels: ``[S]`` which labels each structure has.
    """

    datasets: tuple[str, ...]
    dataset: Ints
    compositions: Ints
    composition: Ints
    energy: Floats
    relaxed_energy: Floats
    force_square: Floats
    force_count: Ints
    charge: Ints
    spin: Ints
    label_names: tuple[str, ...]
    labels: Ints

    def __len__(self) -> int:
        """Return the number of structures."""
        return len(self.dataset)

    @property
    def atoms(self) -> Ints:
        """``[S]`` number of atoms."""
        sizes: Ints = self.compositions.sum(axis=1)[self.composition]
        return sizes

    def has(self, label: str) -> npt.NDArray[np.bool_]:
        """Return ``[S]`` which structures have a label."""
        if label not in self.label_names:
            return np.zeros(len(self), dtype=bool)
        bits: npt.NDArray[np.bool_] = (self.labels >> self.label_names.index(label)) & 1 == 1
        return bits

    def take(self, rows: Ints) -> Columns:
        """Return the columns of some structures."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _PER_STRUCTURE})


_PER_STRUCTURE = (
    "dataset",
    "composition",
    "energy",
    "relaxed_energy",
    "force_square",
    "force_count",
    "charge",
    "spin",
    "labels",
)


def columns_of(systems: Iterable[AtomicData]) -> Columns:
    """Go through single structures once and keep one row of each."""
    datasets: dict[str, int] = {}
    compositions: dict[bytes, int] = {}
    names: dict[str, int] = {}
    rows: dict[str, list[float]] = {name: [] for name in _PER_STRUCTURE}
    for system in systems:
        numbers = np.bincount(system.atomic_numbers.numpy(), minlength=MAX_ATOMIC_NUMBER + 1)
        square, count = _forces(system)
        values = {
            "dataset": datasets.setdefault(system.dataset[0], len(datasets)),
            "composition": compositions.setdefault(numbers.tobytes(), len(compositions)),
            "energy": _one(system, "energy"),
            "relaxed_energy": _one(system, "relaxed_energy"),
            "force_square": square,
            "force_count": count,
            "charge": int(system.charge[0]),
            "spin": int(system.spin[0]),
            "labels": sum(1 << names.setdefault(name, len(names)) for name in system.labels),
        }
        for name, value in values.items():
            rows[name].append(value)
    columns: dict[str, Any] = {n: np.array(rows[n], dtype=_dtype(n)) for n in _PER_STRUCTURE}
    tables = [np.frombuffer(key, dtype=np.int64) for key in compositions]
    return Columns(
        datasets=tuple(datasets),
        compositions=np.array(tables, dtype=np.int64).reshape(-1, MAX_ATOMIC_NUMBER + 1),
        label_names=tuple(names),
        **columns,
    )


def join(parts: Sequence[Columns]) -> Columns:
    """Put columns below each other."""
    datasets = sorted({name for part in parts for name in part.datasets})
    names = sorted({name for part in parts for name in part.label_names})
    stacked = np.concatenate([part.compositions for part in parts])
    unique, inverse = np.unique(stacked, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    starts = np.cumsum([0, *(len(part.compositions) for part in parts)])
    changed = []
    for part, start in zip(parts, starts[:-1], strict=True):
        numbers = np.array([datasets.index(name) for name in part.datasets], dtype=np.int64)
        bits = [part.has(name).astype(np.int64) << bit for bit, name in enumerate(names)]
        changed.append(
            replace(
                part,
                dataset=numbers[part.dataset],
                composition=inverse[part.composition + start].astype(np.int64),
                labels=np.sum(bits, axis=0, dtype=np.int64) if bits else part.labels,
            )
        )
    return Columns(
        datasets=tuple(datasets),
        compositions=unique.astype(np.int64),
        label_names=tuple(names),
        **{name: np.concatenate([getattr(p, name) for p in changed]) for name in _PER_STRUCTURE},
    )


def examples_of(columns: Columns) -> list[int]:
    """Return rows that together have every element, charge and spin of each dataset."""
    chosen: set[int] = set()
    for number in range(len(columns.datasets)):
        rows = np.flatnonzero(columns.dataset == number)
        for name in ("charge", "spin"):
            _, first = np.unique(getattr(columns, name)[rows], return_index=True)
            chosen.update(rows[first].tolist())
        used, first = np.unique(columns.composition[rows], return_index=True)
        has_element = columns.compositions[used] > 0
        for element in np.flatnonzero(has_element.any(axis=0)):
            chosen.add(int(rows[first[has_element[:, element].argmax()]]))
    return sorted(chosen)


def _dtype(name: str) -> type[np.float64 | np.int64]:
    return np.float64 if name in ("energy", "relaxed_energy", "force_square") else np.int64


def _one(system: AtomicData, name: str) -> float:
    value = system.labels.get(name)
    return np.nan if value is None else float(value.reshape(-1)[0])


def _forces(system: AtomicData) -> tuple[float, int]:
    if "forces" not in system.labels:
        return 0.0, 0
    free = system.labels["forces"][~system.fixed].double()
    free = free[free.isfinite().all(dim=1)]
    return float((free**2).sum()), free.numel()
