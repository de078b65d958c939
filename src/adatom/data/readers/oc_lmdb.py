"""LMDB files of the Open Catalyst Project: pickled graphs under the keys "0", "1", ..."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from adatom.core.errors import DataError
from adatom.data.frame import Frame
from adatom.data.readers.base import FrameReader
from adatom.data.readers.inert_pickle import as_array, read_graph, read_number
from adatom.data.readers.lmdb_file import LmdbFile

#: Labels and the attributes that may hold them, the preferred one first.
LABELS = MappingProxyType(
    {
        "energy": ("y", "y_init"),
        "forces": ("force",),
        "relaxed_energy": ("y_relaxed",),
        "relaxed_pos": ("pos_relaxed",),
    }
)
#: Attributes that are the structure itself; edges are found anew from the positions.
_STRUCTURE = frozenset({"pos", "cell", "atomic_numbers", "natoms", "pbc", "fixed"})
_EDGES = frozenset({"edge_index", "cell_offsets", "neighbors", "distances", "edge_attr"})


class OcLmdbReader(FrameReader):
    """Graphs in the order of their numbers; nothing in the file is executed.

    Structures are periodic unless the file has ``pbc``. Edges, where there are any, are not used.
    """

    lazy = True
    label_keys: dict[str, str]

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            DataError: If it is no such file, is cut off, or has no structure.
        """
        self.path = path
        self._file = LmdbFile(path, "an LMDB file of the Open Catalyst Project")
        with self._file.reading() as transaction:
            length = transaction.get(b"length")
            # Some files were written without it; then every entry is a structure.
            if length is None:
                self._count = int(transaction.stat()["entries"])
            else:
                self._count = read_number(bytes(length), f"The length of {str(path)!r}")
            is_numbered = transaction.get(b"0") is not None
            is_database = transaction.get(b"nextid") is not None
        if is_database:
            raise DataError(
                f"{str(path)!r} is an ASE database", fix="Rename it so that it ends in .aselmdb."
            )
        if self._count < 1:
            raise DataError(f"{str(path)!r} has no structures", expected="at least one")
        if not is_numbered:
            raise DataError(
                f"{str(path)!r} is an LMDB file, but not one of the Open Catalyst Project: it has "
                "no entry '0'",
                expected="pickled graphs under the keys 0, 1, ...",
            )
        there = self._graph(0)
        self.label_keys = {
            label: next(key for key in keys if there.get(key) is not None)
            for label, keys in LABELS.items()
            if any(there.get(key) is not None for key in keys)
        }

    def __len__(self) -> int:
        """Return the number of structures."""
        return self._count

    def frame(self, i: int) -> Frame:
        """Return structure ``i``.

        Raises:
            DataError: If it is missing, damaged, or asks for something to be executed.
        """
        where, graph = self._where(i), self._graph(i)
        self._refuse_mixture(graph, where)
        numbers = self._array(graph, "atomic_numbers", where)
        pos = self._array(graph, "pos", where)
        n = len(numbers)
        cell = self._array(graph, "cell", where)
        frame = Frame(
            numbers=_whole(numbers, where),
            positions=pos,
            cell=cell.reshape(cell.shape[-2:]),
            pbc=np.broadcast_to(self._array(graph, "pbc", where, default=True).reshape(-1), 3),
            fixed=self._array(graph, "fixed", where, default=np.zeros(n)).astype(bool),
        )
        if pos.shape != (n, 3) or frame.cell.shape != (3, 3) or frame.fixed.shape != (n,):
            raise DataError(
                f"{where} has {n} atoms, positions of shape {pos.shape} and a cell of shape "
                f"{cell.shape}",
                expected="shapes [n], [n, 3] and [1, 3, 3]",
            )
        for key in graph.keys() - _STRUCTURE - _EDGES:
            _add(frame, str(key), graph[key], where)
        return frame

    def _refuse_mixture(self, graph: dict[str, Any], where: str) -> None:
        lost = sorted(key for key in self.label_keys.values() if graph.get(key) is None)
        if lost:
            raise DataError(
                f"{where} has no {lost[0]}, which the first structure has",
                expected="a file of one kind, S2EF or IS2RE",
                fix="Copy the file again, or write each kind to a file of its own.",
            )

    def _graph(self, i: int) -> dict[str, Any]:
        with self._file.reading() as transaction:
            program = transaction.get(b"%d" % i)
            if program is None:
                raise DataError(f"{self._where(i)} is missing", fix="Copy the file again.")
            return read_graph(bytes(program), self._where(i))

    def _where(self, i: int) -> str:
        return f"Structure {i} of {str(self.path)!r}"

    def _array(
        self, graph: dict[str, Any], key: str, where: str, *, default: Any = None
    ) -> npt.NDArray[Any]:
        found = as_array(graph.get(key), f"{key} of {where}")
        if found is None and default is None:
            raise DataError(f"{where} has no {key}", expected=f"the numbers of {key}")
        return np.asarray(default if found is None else found)


def _add(frame: Frame, key: str, value: Any, where: str) -> None:
    """Put an attribute where labels and other properties are looked for."""
    if isinstance(value, str):
        frame.info[key] = value
        return
    array = as_array(value, f"{key} of {where}")
    if array is None:
        return
    if array.size == 1:
        frame.info[key] = array.reshape(-1)[0].item()
    elif len(array) == len(frame.numbers):
        frame.arrays[key] = _whole(array, where) if key == "tags" else array
    else:
        frame.info[key] = array


def _whole(values: npt.NDArray[Any], where: str) -> npt.NDArray[np.int64]:
    """Return whole numbers, which these files keep as floating-point numbers."""
    if values.ndim != 1 or not np.array_equal(values, np.round(values)):
        raise DataError(f"{where} has atomic numbers or tags that are not whole numbers")
    return values.astype(np.int64)
