"""ASE databases in LMDB (``.aselmdb``): zlib-compressed JSON rows under the keys "1", "2", ..."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import lmdb
import numpy as np
import numpy.typing as npt

from adatom.core.errors import DataError
from adatom.data.frame import Frame
from adatom.data.readers.ase_json import decode_ase
from adatom.data.readers.base import FrameReader
from adatom.data.readers.database_row import row_frame, units_in_metadata

# LMDB refuses to open a file twice in one process, so all readers of a file share one. Inode and
# modification time are part of the key: a replaced file must not be answered from the old one.
_OPEN: WeakValueDictionary[tuple[str, int, int], lmdb.Environment] = WeakValueDictionary()


class AselmdbReader(FrameReader):
    """Rows of an LMDB database, in the order of their ids; the file is only ever read.

    Several readers of one file, forked workers and pickled copies may be used at the same time.
    """

    lazy = True

    def __init__(self, path: Path) -> None:
        """Open a database.

        Raises:
            DataError: If it is not such a database, is cut off, or has no rows.
        """
        self.path = path
        self._environment: lmdb.Environment | None = None
        with self._reading() as transaction:
            self._ids = _row_ids(transaction, path)
            metadata = transaction.get(b"metadata")
            if metadata is not None:
                self.declared = units_in_metadata(_unpack(metadata, "The metadata", path))
        if not len(self._ids):
            raise DataError(f"The database {str(path)!r} has no rows", expected="at least one")

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._ids)

    def frame(self, i: int) -> Frame:
        """Return row ``i`` (from 0; ids start at 1 and may have gaps).

        Raises:
            DataError: If the row is missing or damaged.
        """
        row = int(self._ids[i])
        with self._reading() as transaction:
            packed = transaction.get(b"%d" % row)
            if packed is None:
                raise DataError(f"Row {row} of {str(self.path)!r} is missing", fix="Copy it again.")
            content = _unpack(packed, f"Row {row}", self.path)
        try:
            return row_frame(row, content)
        # A damaged row raises whatever its content led ASE into.
        except Exception as error:
            raise DataError(
                f"Row {row} of {str(self.path)!r} is not a structure "
                f"({type(error).__name__}: {error})"
            ) from error

    def name(self, i: int) -> str:
        """Return the file name and the row's id."""
        return f"{self.path.name}:{self._ids[i]}"

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file out of pickles; the copy opens it again."""
        return {**self.__dict__, "_environment": None}

    @contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction]:
        if self._environment is None:
            self._environment = _open(self.path)
        # Without a copy: the row is read from the mapped file.
        with self._environment.begin(buffers=True) as transaction:
            yield transaction


def _open(path: Path) -> lmdb.Environment:
    status = path.stat()
    key = (str(path.resolve()), status.st_ino, status.st_mtime_ns)
    environment = _OPEN.get(key)
    if environment is None:
        try:
            _refuse_cut_file(path)
            environment = lmdb.open(
                key[0], subdir=False, readonly=True, lock=False, readahead=False, meminit=False
            )
        except lmdb.Error as error:
            raise DataError(
                f"{str(path)!r} cannot be opened ({error})", fix="Copy it again."
            ) from error
        _OPEN[key] = environment
    return environment


def _refuse_cut_file(path: Path) -> None:
    """Raise if the file ends before its last page: reading beyond would kill the process.

    Each of the two meta pages begins with a 16-byte page header, then: magic (u32), version
    (u32), address (u64), map size (u64), two 48-byte tree records (the first one starts with the
    page size, u32), last page number (u64), transaction number (u64).
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        first = stream.read(168)
        if len(first) < 168 or struct.unpack_from("<I", first, 16)[0] != 0xBEEFC0DE:
            raise DataError(f"{str(path)!r} is not an LMDB file", expected="an ASE LMDB database")
        page = struct.unpack_from("<I", first, 40)[0]
        stream.seek(page)
        metas = [first, stream.read(168)]
    if any(len(meta) < 168 for meta in metas):
        last = 2
    else:
        latest = max(metas, key=lambda meta: int(struct.unpack_from("<Q", meta, 144)[0]))
        last = struct.unpack_from("<Q", latest, 136)[0]
    if size < (last + 1) * page:
        raise DataError(
            f"{str(path)!r} is cut off: it has {size} bytes",
            expected=f"at least {(last + 1) * page}",
            fix="Copy it again from its source.",
        )


def _row_ids(transaction: lmdb.Transaction, path: Path) -> npt.NDArray[np.int64]:
    following = transaction.get(b"nextid")
    if following is None:
        raise DataError(
            f"{str(path)!r} is an LMDB file but not an ASE database",
            expected="rows as written by ase-db-backends (.aselmdb)",
        )
    packed = transaction.get(b"deleted_ids")
    deleted = _unpack(packed, "The list of deleted rows", path) if packed else []
    ids = np.arange(1, int(_unpack(following, "The row counter", path)))
    return ids[~np.isin(ids, np.asarray(deleted, dtype=np.int64))]


def _unpack(packed: bytes | memoryview, what: str, path: Path) -> Any:
    try:
        return decode_ase(zlib.decompress(packed))
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{what} of {str(path)!r} is damaged ({error})",
            fix="Copy the database again, or leave the row out with index.",
        ) from error
