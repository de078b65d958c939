"""Files that structures are written to: one class per format, fed one structure at a time."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Self

import lmdb
import numpy as np
from ase import Atoms

from adatom.core.errors import DataError
from adatom.data.readers.base import split_suffix

#: What numbers are written in, for formats that can say so.
UNITS = MappingProxyType(
    {"length_unit": "A", "energy_unit": "eV", "forces_unit": "eV/A", "stress_unit": "eV/A^3"}
)
#: Bytes that an LMDB file may have at first; it grows when they are used up.
FIRST_SIZE = 1 << 26
#: Rows that are written to a database at once.
_AT_ONCE = 1000


class Sink(ABC):
    """An open file; use it in a ``with`` statement.

    Encoding is most of the work and can be done in other processes.

    Args:
        path: The file, which is replaced.
        compression: ``".xz"``, ``".gz"``, ``".bz2"`` or nothing.
    """

    def __init__(self, path: Path, compression: str) -> None:
        del compression
        self._path = path
        self.count = 0

    @staticmethod
    @abstractmethod
    def encode(atoms: Atoms) -> Any:
        """Return the form in which a structure is written."""

    def add(self, encoded: Any) -> None:
        """Write a structure after those before it.

        Raises:
            DataError: If the format cannot hold it.
        """
        self._add(encoded)
        self.count += 1

    def __enter__(self) -> Self:
        """Open the file."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file, unless something went wrong, and close it."""
        try:
            if kind is None:
                self._finish()
        finally:
            self._close()

    @abstractmethod
    def _add(self, encoded: Any) -> None: ...

    def _finish(self) -> None:
        """Write what is left."""
        return

    def _close(self) -> None:
        """Let the file go."""
        return


class ExtxyzSink(Sink):
    """Extended XYZ, also compressed."""

    def __init__(self, path: Path, compression: str) -> None:
        super().__init__(path, compression)
        self._file = path.open("wb")
        self._stream = _COMPRESS[compression](self._file)

    @staticmethod
    def encode(atoms: Atoms) -> bytes:
        """Return the text of one frame."""
        from ase.io import write  # slow to import: not before it is needed

        text = io.StringIO()
        write(text, atoms, format="extxyz")
        return text.getvalue().encode("utf-8")

    def _add(self, encoded: bytes) -> None:
        self._stream.write(encoded)

    def _close(self) -> None:
        self._stream.close()
        self._file.close()


class AseDbSink(Sink):
    """ASE database (SQLite)."""

    def __init__(self, path: Path, compression: str) -> None:
        from ase.db.core import connect

        super().__init__(path, compression)
        # One transaction for everything: one per row would take ten times as long.
        self._database = connect(str(path), type="db", use_lock_file=False).__enter__()
        self._failed: type[Exception] | None = DataError

    @staticmethod
    def encode(atoms: Atoms) -> Atoms:
        """Return the structure itself: SQLite rows are made where they are written."""
        return atoms

    def _add(self, encoded: Atoms) -> None:
        self._database.write(encoded, data=encoded.info)

    def _finish(self) -> None:
        self._failed = None

    def _close(self) -> None:
        self._database.__exit__(self._failed, None, None)


class AselmdbSink(Sink):
    """ASE database (LMDB), as fairchem-core reads it; equal structures give equal files."""

    def __init__(self, path: Path, compression: str) -> None:
        super().__init__(path, compression)
        self._size = FIRST_SIZE
        self._file = lmdb.open(str(path), subdir=False, lock=False, map_size=self._size)
        self._waiting: dict[bytes, bytes] = {}

    @staticmethod
    def encode(atoms: Atoms) -> bytes:
        """Return one row."""
        from ase.db.row import atoms2dict
        from ase.io.jsonio import encode

        row = atoms2dict(atoms)
        row |= {"key_value_pairs": {}, "data": atoms.info, "user": None}
        row["cell"] = atoms.cell.array  # not an object of ASE, which takes longer to read
        # In place of random names and the time, which would make every file another one.
        row |= {"unique_id": "", "ctime": 0.0, "mtime": 0.0}
        row["unique_id"] = hashlib.sha256(encode(row).encode()).hexdigest()[:32]
        return zlib.compress(encode(row).encode("utf-8"))

    def _add(self, encoded: bytes) -> None:
        self._waiting[b"%d" % (self.count + 1)] = encoded
        if len(self._waiting) >= _AT_ONCE:
            self._flush()

    def _finish(self) -> None:
        for key, value in {"nextid": self.count + 1, "metadata": dict(UNITS)}.items():
            self._waiting[key.encode()] = zlib.compress(_json(value))
        self._flush()

    def _close(self) -> None:
        self._file.close()

    def _flush(self) -> None:
        while True:
            try:
                with self._file.begin(write=True) as transaction:
                    for key, value in self._waiting.items():
                        transaction.put(key, value)
            except lmdb.MapFullError:
                self._size *= 2
                self._file.set_mapsize(self._size)
            else:
                self._waiting = {}
                return


class NpzSink(Sink):
    """NumPy arrays, padded to the largest structure; all structures have the same labels."""

    def __init__(self, path: Path, compression: str) -> None:
        super().__init__(path, compression)
        self._rows: list[dict[str, Any]] = []

    @staticmethod
    def encode(atoms: Atoms) -> dict[str, Any]:
        """Return the numbers of one structure."""
        row: dict[str, Any] = {
            "atomic_numbers": atoms.numbers,
            "pos": atoms.positions,
            "cell": atoms.cell.array,
            "pbc": atoms.pbc,
            "tags": atoms.get_tags(),
            "fixed": np.zeros(len(atoms), dtype=bool),
            "sid": atoms.info["sid"],
            "charge": atoms.info.get("charge", 0),
            "spin": atoms.info.get("spin", 0),
        }
        for constraint in atoms.constraints:
            row["fixed"][constraint.index] = True
        results = {} if atoms.calc is None else atoms.calc.results
        return row | {k: v for k, v in results.items() if k in ("energy", "forces", "stress")}

    def _add(self, encoded: dict[str, Any]) -> None:
        first = self._rows[0] if self._rows else encoded
        if set(encoded) != set(first):
            odd = sorted(set(encoded) ^ set(first))
            raise DataError(
                f"Structure {encoded['sid']!r} and the first one do not both have "
                f"{', '.join(odd)}, which an npz file cannot hold",
                fix="Write .extxyz, .db or .aselmdb.",
            )
        self._rows.append(encoded)

    def _finish(self) -> None:
        most = max((len(row["atomic_numbers"]) for row in self._rows), default=0)
        arrays = {key: _stack([row[key] for row in self._rows], key, most) for key in self._first}
        with self._path.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays, **UNITS)

    @property
    def _first(self) -> dict[str, Any]:
        return self._rows[0] if self._rows else {}


_PER_ATOM = ("atomic_numbers", "pos", "tags", "fixed", "forces")


def _stack(values: list[Any], key: str, most: int) -> np.ndarray:
    if key not in _PER_ATOM:
        return np.array(values)
    first = np.asarray(values[0])
    out = np.zeros((len(values), most, *first.shape[1:]), dtype=first.dtype)
    for row, value in zip(out, values, strict=True):
        row[: len(value)] = value
    return out


def _json(value: Any) -> bytes:
    from ase.io.jsonio import encode

    text: str = encode(value)
    return text.encode("utf-8")


_COMPRESS: Mapping[str, Callable[[BinaryIO], Any]] = MappingProxyType(
    {
        "": lambda file: file,
        # Level 6 takes five times as long for files that are 2 % smaller.
        ".xz": lambda file: lzma.LZMAFile(file, "wb", preset=1),  # noqa: SIM115 (closed by the sink)
        # Without name and time, which would make every file another one.
        ".gz": lambda file: gzip.GzipFile("", "wb", fileobj=file, mtime=0),
        ".bz2": lambda file: bz2.BZ2File(file, "wb"),
    }
)
_SINKS: Mapping[str, type[Sink]] = MappingProxyType(
    {
        ".extxyz": ExtxyzSink,
        ".xyz": ExtxyzSink,
        ".db": AseDbSink,
        ".aselmdb": AselmdbSink,
        ".npz": NpzSink,
    }
)


def find_sink(path: Path) -> tuple[type[Sink], str]:
    """Return the class for a file name and its compression.

    Raises:
        DataError: If there is none.
    """
    suffix, compression = split_suffix(path)
    kind = _SINKS.get(suffix)
    if kind is None or (compression and kind is not ExtxyzSink):
        raise DataError(
            f"Structures cannot be written to {str(path)!r}",
            expected=f"a file name ending in {', '.join(_SINKS)}, or .extxyz.xz, .extxyz.gz",
        )
    return kind, compression
