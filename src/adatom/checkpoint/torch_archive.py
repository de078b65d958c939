"""The zip archive that ``torch.save`` writes, opened without torch's unpickler.

Layout: ``<root>/data.pkl``, one raw file per storage ``<root>/data/<key>``, and
``<root>/byteorder``.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from adatom.checkpoint.restricted_unpickler import StorageRecord, TensorRecord, read_pickle
from adatom.core.errors import CheckpointError

_ZIP_MAGIC = b"PK\x03\x04"


def is_torch_archive(path: Path) -> bool:
    """Whether the file is a zip archive, as ``torch.save`` writes."""
    with path.open("rb") as stream:
        return stream.read(4) == _ZIP_MAGIC


@contextmanager
def open_archive(path: Path) -> Iterator[TorchArchive]:
    """Open an archive for reading.

    Raises:
        CheckpointError: If the file is no such archive, or was written on a big-endian machine.
    """
    try:
        file = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise _damaged(path, error) from error
    with file:
        yield TorchArchive(path, file)


class TorchArchive:
    """An open archive; made by :func:`open_archive`."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path = path
        self._zip = file
        self._entries = {entry.filename: entry for entry in file.infolist()}
        programs = [n for n in self._entries if n.endswith("/data.pkl") and n.count("/") == 1]
        if len(programs) != 1:
            raise CheckpointError(
                f"{str(path)!r} is a zip file, but not one that torch.save wrote",
                expected="an official fairchem inference checkpoint",
            )
        self._root = programs[0].removesuffix("data.pkl")
        order = f"{self._root}byteorder"
        if order in self._entries and self._read(order).strip() != b"little":
            raise CheckpointError(
                f"{str(path)!r} was written on a big-endian machine", expected="little-endian"
            )

    def contents(self) -> Any:
        """Return the pickled object as records; see :func:`read_pickle`."""
        return read_pickle(self._read(f"{self._root}data.pkl"), str(self.path))

    def tensor(self, record: TensorRecord) -> torch.Tensor:
        """Read one tensor, on the CPU in its stored dtype.

        Raises:
            CheckpointError: If its bytes are missing, damaged or fewer than described.
        """
        storage, offset, shape, stride = record.view
        if not isinstance(storage, StorageRecord) or not _is_view(offset, shape, stride):
            raise _damaged(self.path, "a tensor is described wrongly")
        raw = self._read(f"{self._root}data/{storage.key}")
        size = math.prod(shape)
        if size == 0:
            return torch.empty(shape, dtype=storage.dtype)
        last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        available = len(raw) // storage.dtype.itemsize
        # Repeated numbers (stride 0) are refused too: they could fill the memory.
        if max(last + 1, size) > available:
            raise _damaged(
                self.path,
                f"storage {storage.key} has {available} numbers of {max(last + 1, size)}",
            )
        flat = torch.frombuffer(bytearray(raw), dtype=storage.dtype)
        return flat.as_strided(shape, stride, offset).clone()

    def _read(self, name: str) -> bytes:
        entry = self._entries.get(name)
        if entry is None:
            raise _damaged(self.path, f"{name} is missing")
        if entry.compress_type != zipfile.ZIP_STORED:
            # torch never compresses, and unpacking could fill the memory.
            raise _damaged(self.path, f"{name} is compressed")
        try:
            return self._zip.read(entry)
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as error:
            raise _damaged(self.path, error) from error


def _is_view(offset: Any, shape: Any, stride: Any) -> bool:
    """Whether the three are what a tensor's description may hold."""
    if not isinstance(shape, tuple) or not isinstance(stride, tuple) or len(shape) != len(stride):
        return False
    return all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *stride))


def _damaged(path: Path, reason: object) -> CheckpointError:
    return CheckpointError(
        f"{str(path)!r} is truncated or damaged: {reason}",
        fix="Copy or download the file again.",
    )
