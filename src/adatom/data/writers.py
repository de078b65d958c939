"""Write structures with their labels, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from ase import Atoms

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
    info: Iterable[Mapping[str, Any]] | None = None,
) -> int:
    """Write systems with their labels; ``path`` is either left alone or complete.

    Both arguments may be generators: one system is held at a time.

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
    with atomic_write(file) as part:
        count = writer(part, _frames(systems, info))
        if not count:
            raise DataError(f"There is no structure to write to {str(path)!r}")
    return count


def with_predictions(data: AtomicData, predictions: Mapping[str, torch.Tensor]) -> AtomicData:
    """Return a copy whose labels are ``predictions``, on the CPU.

    Args:
        data: A system or batch.
        predictions: ``energy [B]``, ``forces [N, 3]``, ``stress [B, 3, 3]``, ``energies [N]``, ...
    """
    copy = data.to("cpu")
    copy.labels = {name: value.detach().to("cpu") for name, value in predictions.items()}
    return copy


def _frames(
    systems: Iterable[AtomicData], info: Iterable[Mapping[str, Any]] | None
) -> Iterator[Atoms]:
    extras = repeat({}) if info is None else iter(info)
    count = 0
    for atoms in (atoms for system in systems for atoms in to_ase(system)):
        extra = next(extras, None)
        if extra is None:
            raise _wrong_length(count, f"more than {count}")
        units = {key for key in extra if declared_units({key: "eV"})}
        atoms.info = {
            key: value
            for key, value in extra.items()
            if key.lower() not in _OWN_KEYS and key not in units
        } | atoms.info
        count += 1
        yield atoms
    if info is not None and next(extras, None) is not None:
        raise _wrong_length(f"more than {count}", count)


def _wrong_length(entries: int | str, structures: int | str) -> DataError:
    return DataError(
        f"There are {entries} info entries for {structures} structures", expected="one for each"
    )


def _write_extxyz(path: Path, frames: Iterator[Atoms]) -> int:
    from ase.io import write  # slow to import: not before it is needed

    count = 0
    with path.open("w", encoding="utf-8") as stream:
        for count, atoms in enumerate(frames, start=1):  # noqa: B007 (the last one counts)
            write(stream, atoms, format="extxyz")
    return count


def _write_db(path: Path, frames: Iterator[Atoms]) -> int:
    from ase.db.core import connect

    count = 0
    database = connect(str(path), type="db", use_lock_file=False)
    with database:
        for count, atoms in enumerate(frames, start=1):  # noqa: B007 (the last one counts)
            database.write(atoms, data=atoms.info)
    return count


_WRITERS: Mapping[str, Callable[[Path, Iterator[Atoms]], int]] = MappingProxyType(
    {".extxyz": _write_extxyz, ".xyz": _write_extxyz, ".db": _write_db}
)
