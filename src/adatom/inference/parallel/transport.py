"""Structures on their way between processes: plain arrays, and a fingerprint of all but geometry.

What is sent is made of NumPy arrays, texts and numbers. Positions and cell go with every call, and
so does all else: a worker compares the fingerprint of what it is given with the one that the caller
took, and rebuilds the structure if that is not the one it built last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from adatom.core.errors import WorkerError
from adatom.data.atomic_data import AtomicData
from adatom.graph.edges import Edges

#: What moves. Labels stay behind: nothing is computed from them.
_GEOMETRY = ("pos", "cell", "edges", "labels")
_EDGES = ("index", "offsets", "counts")

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Metadata:
    """All of a batch but its geometry.

    Attributes:
        arrays: Tensors by name of the field: numbers, periodicity, charge, spin, tags, ...
        lists: One text per system by name of the field: datasets and identifiers.
        fingerprint: Of both.
    """

    arrays: Arrays
    lists: dict[str, list[str]]
    fingerprint: str


def metadata_of(data: AtomicData) -> Metadata:
    """Return copies of all of a batch but its geometry; a new field of AtomicData is included."""
    arrays: Arrays = {}
    lists: dict[str, list[str]] = {}
    for item in fields(data):
        if item.name in _GEOMETRY:
            continue
        value = getattr(data, item.name)
        if isinstance(value, torch.Tensor):
            arrays[item.name] = _array(value).copy()
        else:
            lists[item.name] = list(value)
    return Metadata(arrays, lists, fingerprint(arrays, lists))


def fingerprint(arrays: Mapping[str, npt.NDArray[Any]], lists: Mapping[str, list[str]]) -> str:
    """Return a hash (BLAKE2b, 128 bits) of names, types, shapes and contents."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        value = arrays[name]
        found.update(f"{name} {value.dtype.str} {value.shape};".encode())
        found.update(np.ascontiguousarray(value).tobytes())
    found.update(json.dumps({name: lists[name] for name in sorted(lists)}).encode())
    return found.hexdigest()


def geometry_of(data: AtomicData) -> Arrays:
    """Return positions, cell, and edges where there are any."""
    geometry = {"pos": _array(data.pos), "cell": _array(data.cell)}
    if data.edges is not None:
        geometry |= {f"edges.{name}": _array(getattr(data.edges, name)) for name in _EDGES}
    return geometry


class Receiver:
    """Rebuilds structures in a worker."""

    def __init__(self) -> None:
        self._fingerprint = ""
        self._last: AtomicData | None = None

    def receive(self, expected: str, metadata: Metadata, geometry: Arrays) -> AtomicData:
        """Return the batch.

        Args:
            expected: Fingerprint that the caller took.
            metadata: All but the geometry.
            geometry: From :func:`geometry_of`.

        Raises:
            WorkerError: If the metadata are not those of the fingerprint.
        """
        pos, cell = _tensor(geometry["pos"]), _tensor(geometry["cell"])
        edges = None
        if "edges.index" in geometry:
            edges = Edges(*(_tensor(geometry[f"edges.{name}"]) for name in _EDGES))
        if self._last is None or self._fingerprint != expected:
            if fingerprint(metadata.arrays, metadata.lists) != expected:
                raise WorkerError(
                    "The structure was damaged on its way to a worker: its fingerprint is another"
                )
            arrays = {name: _tensor(value) for name, value in metadata.arrays.items()}
            self._last = AtomicData(pos=pos, cell=cell, **arrays, **metadata.lists)  # type: ignore[arg-type]
            self._fingerprint = expected
        return replace(self._last, pos=pos, cell=cell, edges=edges)


def arrays_of(values: Mapping[str, torch.Tensor]) -> Arrays:
    """Return predictions as arrays."""
    return {name: _array(value) for name, value in values.items()}


def tensors_of(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, torch.Tensor]:
    """Return predictions as tensors of their own memory."""
    return {name: _tensor(value) for name, value in arrays.items()}


def size_of(arrays: Mapping[str, npt.NDArray[Any]]) -> int:
    """Return bytes."""
    return sum(value.nbytes for value in arrays.values())


def _array(value: torch.Tensor) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = value.detach().cpu().numpy()
    return found


def _tensor(value: npt.NDArray[Any]) -> torch.Tensor:
    # Ray's arrays are read-only memory of the object store.
    return torch.from_numpy(np.array(value))
