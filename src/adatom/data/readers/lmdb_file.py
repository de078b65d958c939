"""One open LMDB file per process, however many datasets look at it; only ever read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import lmdb

from adatom.core.errors import DataError

# LMDB refuses to open a file twice in one process, so all readers of a file share one. Inode and
# modification time are part of the key: a replaced file must not be answered from the old one.
_OPEN: WeakValueDictionary[tuple[str, int, int], lmdb.Environment] = WeakValueDictionary()


class LmdbFile:
    """A memory-mapped file; forked workers and pickled copies may use it at the same time.

    Args:
        path: The file (not a folder).
        kind: What it should be, for messages.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self._path = path
        self._kind = kind
        self._environment: lmdb.Environment | None = None

    @contextmanager
    def reading(self) -> Iterator[lmdb.Transaction]:
        """Begin a transaction, which gives memory views: no byte is copied.

        Yields:
            The transaction.

        Raises:
            DataError: If the file is no LMDB file or is cut off.
        """
        if self._environment is None:
            self._environment = _open(self._path, self._kind)
        with self._environment.begin(buffers=True) as transaction:
            yield transaction

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file out of pickles; the copy opens it again."""
        return {**self.__dict__, "_environment": None}


def _open(path: Path, kind: str) -> lmdb.Environment:
    status = path.stat()
    key = (str(path.resolve()), status.st_ino, status.st_mtime_ns)
    environment = _OPEN.get(key)
    if environment is None:
        try:
            _refuse_cut_file(path, kind)
            environment = lmdb.open(
                key[0], subdir=False, readonly=True, lock=False, readahead=False, meminit=False
            )
        except lmdb.Error as error:
            raise DataError(
                f"{str(path)!r} cannot be opened ({error})", fix="Copy it again."
            ) from error
        _OPEN[key] = environment
    return environment


def _refuse_cut_file(path: Path, kind: str) -> None:
    """Raise if the file ends before its last page: reading beyond would kill the process.

    Each of the two meta pages begins with a 16-byte page header, then: magic (u32), version
    (u32), address (u64), map size (u64), two 48-byte tree records (the first one starts with the
    page size, u32), last page number (u64), transaction number (u64).
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        first = stream.read(168)
        if len(first) < 168 or struct.unpack_from("<I", first, 16)[0] != 0xBEEFC0DE:
            raise DataError(f"{str(path)!r} is not an LMDB file", expected=kind)
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
