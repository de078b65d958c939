"""Write structures with their labels, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

from adatom.core.errors import DataError
from adatom.core.files import atomic_write, require_writable
from adatom.data.ase_convert import to_ase
from adatom.data.atomic_data import AtomicData
from adatom.data.label_units import declared_units
from adatom.data.labels import USUAL_KEYS
from adatom.data.sinks import find_sink

# Written from the labels, in eV and angstrom; the same words of the source would contradict them.
_OWN_KEYS = frozenset(
    {
        *("energy", "forces", "stress", "virial", "sid", "fid", "charge", "spin"),
        *USUAL_KEYS["relaxed_energy"],
        *USUAL_KEYS["relaxed_pos"],
    }
)


def write_structures(
    path: str | os.PathLike[str],
    systems: Iterable[AtomicData],
    *,
    info: Iterable[Mapping[str, Any]] | None = None,
) -> int:
    """Write systems with their labels; ``path`` is either left alone or complete.

    Both arguments may be generators: one system is held at a time.

    Args:
        path: Ends in ``.extxyz``, ``.xyz`` (also with ``.xz`` or ``.gz``), ``.db``, ``.aselmdb`` or
            ``.npz``; an existing file is replaced.
        systems: Systems or batches. Their labels (predictions, for example) are written in eV and
            angstrom under the usual names; charge, spin, sid, dataset, tags and fixed atoms too.
        info: Per system, what else to write, such as
            :meth:`~adatom.data.structure_dataset.StructureDataset.info` of the source.

    Returns:
        The number of systems written.

    Raises:
        FileAccessError: If the place cannot be written.
        DataError: If the ending is unknown, there is nothing to write, or ``info`` has another
            length.
    """
    file = Path(path)
    kind, compression = find_sink(file)
    require_writable(file)
    with atomic_write(file) as part, kind(part, compression) as sink:
        for atoms in _frames(systems, info):
            sink.add(sink.encode(atoms))
        if not sink.count:
            raise DataError(f"There is no structure to write to {str(path)!r}")
    return sink.count


def with_predictions(data: AtomicData, predictions: Mapping[str, torch.Tensor]) -> AtomicData:
    """Return a copy whose labels are ``predictions``, on the CPU.

    Args:
        data: A system or batch.
        predictions: ``energy [B]``, ``forces [N, 3]``, ``stress [B, 3, 3]``, ``energies [N]``, ...
    """
    copy = data.to("cpu")
    copy.labels = {name: value.detach().to("cpu") for name, value in predictions.items()}
    return copy


def add_info(atoms: Atoms, info: Mapping[str, Any]) -> None:
    """Add what a file said of a structure, less what its labels and units replace."""
    units = {key for key in info if declared_units({key: "eV"})}
    kept = {k: v for k, v in info.items() if k.lower() not in _OWN_KEYS and k not in units}
    atoms.info = kept | atoms.info


def _frames(
    systems: Iterable[AtomicData], info: Iterable[Mapping[str, Any]] | None
) -> Iterator[Atoms]:
    extras = repeat({}) if info is None else iter(info)
    count = 0
    for atoms in (atoms for system in systems for atoms in to_ase(system)):
        extra = next(extras, None)
        if extra is None:
            raise _wrong_length(count, f"more than {count}")
        add_info(atoms, extra)
        count += 1
        yield atoms
    if info is not None and next(extras, None) is not None:
        raise _wrong_length(f"more than {count}", count)


def _wrong_length(entries: int | str, structures: int | str) -> DataError:
    return DataError(
        f"There are {entries} info entries for {structures} structures", expected="one for each"
    )
