"""What is known of every structure of a large dataset, found once and kept beside the run."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from adatom.core.console import progress
from adatom.core.files import atomic_write
from adatom.data.parallel import map_rows
from adatom.data.structure_dataset import StructureDataset
from adatom.training.columns import Columns, Ints, columns_of, join

#: Part of the name of an index, so that one of another version is made anew.
_VERSION = 2
#: Structures that a process works on at a time.
_CHUNK = 256

Arrays = Mapping[str, np.ndarray]


def index_of(
    systems: StructureDataset, folder: Path | None, *, workers: int = 0
) -> tuple[Columns, dict[str, Any]]:
    """Read and check every structure once, or take what was found before.

    Args:
        systems: One source.
        folder: Where the index is kept; None keeps nothing.
        workers: Processes that read; 0 uses none but this one.

    Returns:
        The columns and the fingerprint of the source.

    Raises:
        DataError: If a structure is not usable; the message names it.
    """

    def find() -> Arrays:
        with progress(f"Index of {systems.path}", len(systems)) as bar:
            parts = []
            for part in map_rows(_columns, systems, workers=workers, chunk=_CHUNK):
                parts.append(part)
                bar.advance(len(part))
        columns = join(parts)
        present = np.flatnonzero(columns.compositions.any(axis=0))
        fingerprint = systems.fingerprint([chemical_symbols[z] for z in present])
        arrays = {name: np.asarray(getattr(columns, name)) for name in Columns.__slots__}
        return arrays | {"fingerprint": np.array(json.dumps(fingerprint))}

    arrays = dict(_kept(folder, ("index", _VERSION, systems.identity()), find))
    fingerprint: dict[str, Any] = json.loads(str(arrays.pop("fingerprint")))
    values = {name: _plain(value) for name, value in arrays.items()}
    return Columns(**values), fingerprint


def edge_counts(
    systems: StructureDataset,
    cutoff: float,
    max_neighbors: int | None,
    folder: Path | None,
    *,
    workers: int = 0,
) -> Ints:
    """Count the directed edges of every structure, or take what was found before.

    Args:
        systems: One source.
        cutoff: In angstrom.
        max_neighbors: See :func:`adatom.graph.neighbors.neighbor_list`.
        folder: Where the numbers are kept; None keeps nothing.
        workers: Processes that search; 0 uses none but this one.
    """

    def find() -> Arrays:
        count = partial(_edges, cutoff, max_neighbors)
        with progress(f"Edges of {systems.path}", len(systems)) as bar:
            parts = []
            for part in map_rows(count, systems, workers=workers, chunk=_CHUNK):
                parts.append(part)
                bar.advance(len(part))
        return {"edges": np.concatenate(parts)}

    key = ("edges", _VERSION, systems.identity(), cutoff, max_neighbors)
    edges: Ints = _kept(folder, key, find)["edges"]
    return edges


def _columns(systems: StructureDataset, rows: Sequence[int]) -> Columns:
    return columns_of(systems[row] for row in rows)


def _edges(
    cutoff: float, max_neighbors: int | None, systems: StructureDataset, rows: Sequence[int]
) -> Ints:
    counts = []
    for row in rows:
        edges = systems[row].with_edges(cutoff, max_neighbors=max_neighbors).edges
        counts.append(edges.num_edges if edges is not None else 0)
    return np.array(counts, dtype=np.int64)


def _kept(folder: Path | None, key: tuple[Any, ...], find: Callable[[], Arrays]) -> Arrays:
    """Return arrays of a file that belongs to ``key``, which ``find`` makes if it is not there."""
    if folder is None:
        return find()
    path = folder / f"{key[0]}-{hashlib.sha256(repr(key).encode()).hexdigest()[:20]}.npz"
    # The processes of one machine wait for the one that comes first.
    with _locked(folder):
        if not path.exists():
            arrays = find()
            with atomic_write(path) as part:
                np.savez(part, allow_pickle=False, **arrays)
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _plain(value: np.ndarray) -> Any:
    return tuple(value.tolist()) if value.dtype.kind == "U" else value
