"""Write structures with their labels, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from ase import Atoms
from ase.db.core import connect
from ase.io import write

from adatom.core.errors import DataError
from adatom.core.files import atomic_write, require_writable
from adatom.data.ase_convert import to_ase
from adatom.data.atomic_data import AtomicData
from adatom.data.label_units import declared_units

# Written from the labels, in eV and angstrom; the same words of the source would contradict them.
_OWN_KEYS = frozenset({"energy", "forces", "stress", "virial", "sid", "fid", "charge", "spin"})


def write_structures(
    path: str | os.PathLike[str],
    systems: Iterable[AtomicData],
    *,
    info: Sequence[Mapping[str, Any]] | None = None,
) -> int:
    """Write systems with their labels; ``path`` is either left alone or complete.

    Args:
        path: Ends in ``.extxyz``, ``.xyz`` or ``.db``; an existing file is replaced.
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
    writer = _WRITERS.get(file.suffix.lower())
    if writer is None:
        raise DataError(
            f"Structures cannot be written to {str(path)!r}",
            expected=f"a file name ending in {', '.join(_WRITERS)}",
        )
    require_writable(file)
    frames = _frames(systems, info)
    if not frames:
        raise DataError(f"There is no structure to write to {str(path)!r}")
    with atomic_write(file) as part:
        writer(part, frames)
    return len(frames)


def with_predictions(data: AtomicData, predictions: Mapping[str, torch.Tensor]) -> AtomicData:
    """Return a copy whose labels are ``predictions``, on the CPU.

    Args:
        data: A system or batch.
        predictions: ``energy [B]``, ``forces [N, 3]``, ``stress [B, 3, 3]``, ``energies [N]``, ...
    """
    copy = data.to("cpu")
    copy.labels = {name: value.detach().to("cpu") for name, value in predictions.items()}
    return copy


def _frames(systems: Iterable[AtomicData], info: Sequence[Mapping[str, Any]] | None) -> list[Atoms]:
    frames = [atoms for system in systems for atoms in to_ase(system)]
    if info is not None and len(info) != len(frames):
        raise DataError(
            f"There are {len(info)} info entries for {len(frames)} structures",
            expected="one for each",
        )
    for atoms, extra in zip(frames, info if info is not None else repeat({}), strict=False):
        units = {key for key in extra if declared_units({key: "eV"})}
        atoms.info = {
            key: value
            for key, value in extra.items()
            if key.lower() not in _OWN_KEYS and key not in units
        } | atoms.info
    return frames


def _write_extxyz(path: Path, frames: list[Atoms]) -> None:
    write(str(path), frames, format="extxyz")


def _write_db(path: Path, frames: list[Atoms]) -> None:
    database = connect(str(path), type="db", use_lock_file=False)
    with database:
        for atoms in frames:
            database.write(atoms, data=atoms.info)


_WRITERS: Mapping[str, Callable[[Path, list[Atoms]], None]] = MappingProxyType(
    {".extxyz": _write_extxyz, ".xyz": _write_extxyz, ".db": _write_db}
)
