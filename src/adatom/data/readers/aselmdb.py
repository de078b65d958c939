"""ASE databases in LMDB (``.aselmdb``): zlib-compressed JSON rows under the keys "1", "2", ..."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import numpy.typing as npt

from adatom.core.errors import DataError
from adatom.data.frame import Frame
from adatom.data.readers.ase_json import decode_ase
from adatom.data.readers.base import FrameReader
from adatom.data.readers.database_row import row_frame, units_in_metadata
from adatom.data.readers.lmdb_file import LmdbFile


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
        self._file = LmdbFile(path, "an ASE LMDB database")
        with self._file.reading() as transaction:
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
        with self._file.reading() as transaction:
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
