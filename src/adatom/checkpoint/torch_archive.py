"""The zip archive that ``torch.save`` writes, opened without torch's unpickler.

Layout: ``<root>/data.pkl``, one raw file per storage ``<root>/data/<key>``, and
``<root>/byteorder``.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from adatom.checkpoint.restricted_unpickler import StorageRecord, TensorRecord, read_pickle
from adatom.core.errors import CheckpointError
from adatom.core.mapped_file import MappedFile

_ZIP_MAGIC = b"PK\x03\x04"
#: Magic, lengths of name and extra field; what lies between also stands in the directory.
_LOCAL_HEADER = struct.Struct("<4s22xHH")

#: Set where a name is not in the zip format's old character set.
_UTF8 = 0x800


def is_torch_archive(path: Path) -> bool:
    """Whether the file is a zip archive, as ``torch.save`` writes."""
    with path.open("rb") as stream:
        return stream.read(4) == _ZIP_MAGIC


@contextmanager
def open_archive(path: Path, *, verify: bool = True) -> Iterator[TorchArchive]:
    """Open an archive for reading.

    Args:
        path: The file.
        verify: Compare the bytes of each tensor with their checksum. Without it, large tensors
            are not read at all before they are used.

    Raises:
        CheckpointError: If the file is no such archive, or was written on a big-endian machine.
    """
    try:
        file = zipfile.ZipFile(path)
    # What a damaged directory of the archive can lead to.
    except (zipfile.BadZipFile, OSError, ValueError, ArithmeticError, struct.error) as error:
        raise _damaged(path, error) from error
    with file, MappedFile(path) as mapped:
        yield TorchArchive(path, file, mapped, verify=verify)


class TorchArchive:
    """An open archive; made by :func:`open_archive`."""

    def __init__(
        self, path: Path, file: zipfile.ZipFile, mapped: MappedFile, *, verify: bool
    ) -> None:
        self.path = path
        self._zip = file
        self._mapped = mapped
        self._verify = verify
        self._starts: dict[str, int] = {}
        self._described_bytes = 0
        self._entries = {entry.filename: entry for entry in file.infolist()}
        if len(self._entries) != len(file.infolist()):
            raise _damaged(path, "two entries have the same name")
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
        """Return one tensor, on the CPU in its stored dtype; large ones are mapped, not read.

        Raises:
            CheckpointError: If its bytes are missing, damaged or fewer than described.
        """
        storage, offset, shape, stride = record.view
        if not isinstance(storage, StorageRecord) or not _is_view(offset, shape, stride):
            raise _damaged(self.path, "a tensor is described wrongly")
        entry = self._entry(f"{self._root}data/{storage.key}")
        available = entry.file_size // storage.dtype.itemsize
        # Repeated numbers (stride 0) are refused too: they could fill the memory.
        needed = _numbers_needed(offset, shape, stride)
        if needed > available:
            raise _damaged(self.path, f"storage {storage.key} has {available} numbers of {needed}")
        self._described_bytes += needed * storage.dtype.itemsize
        if self._described_bytes > self._mapped.num_bytes:
            raise _damaged(self.path, "it describes more numbers than it holds")
        is_first = entry.filename not in self._starts
        flat = self._mapped.tensor(self._start(entry), storage.dtype, (available,))
        view = flat.as_strided(shape, stride, offset)
        # Tensors that share a storage in the file must not share memory here.
        return view if is_first and view.is_contiguous() else view.clone()

    def _start(self, entry: zipfile.ZipInfo) -> int:
        """Return where an entry's bytes start, after checking them."""
        if entry.filename not in self._starts:
            start = self._after_local_header(entry)
            if self._verify:
                self._check(entry, start)
            self._starts[entry.filename] = start
        return self._starts[entry.filename]

    def _after_local_header(self, entry: zipfile.ZipInfo) -> int:
        try:
            header = self._bytes(entry.header_offset, _LOCAL_HEADER.size)
            magic, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            name = self._bytes(entry.header_offset + _LOCAL_HEADER.size, name_length)
        except (EOFError, ValueError, OSError, ArithmeticError, struct.error) as error:
            raise _damaged(self.path, error) from error
        start: int = entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        if magic != _ZIP_MAGIC or start + entry.file_size > self._mapped.num_bytes:
            raise _damaged(self.path, f"{entry.filename} lies outside the file")
        # The checksum says nothing about which entry it is.
        if name != entry.orig_filename.encode("utf-8" if entry.flag_bits & _UTF8 else "cp437"):
            raise _damaged(self.path, f"{entry.filename} has another name where it lies")
        return start

    def _bytes(self, start: int, size: int) -> bytes:
        return b"".join(bytes(chunk) for chunk in self._mapped.chunks(start, size))

    def _check(self, entry: zipfile.ZipInfo, start: int) -> None:
        checksum = 0
        for chunk in self._mapped.chunks(start, entry.file_size):
            checksum = zlib.crc32(chunk, checksum)
        if checksum != entry.CRC:
            raise _damaged(self.path, f"the CRC-32 of {entry.filename} is wrong")

    def _entry(self, name: str) -> zipfile.ZipInfo:
        entry = self._entries.get(name)
        if entry is None:
            raise _damaged(self.path, f"{name} is missing")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            # torch never compresses, and unpacking could fill the memory.
            raise _damaged(self.path, f"{name} is compressed")
        return entry

    def _read(self, name: str) -> bytes:
        entry = self._entry(name)
        start = self._after_local_header(entry)
        self._check(entry, start)
        return self._bytes(start, entry.file_size)


def _numbers_needed(offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Return how many numbers a storage must have for a view of it."""
    size = math.prod(shape)
    if not size:
        return 0
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    return max(last + 1, size)


def _is_view(offset: Any, shape: Any, stride: Any) -> bool:
    """Whether the three are what a tensor's description may hold."""
    if not isinstance(shape, tuple) or not isinstance(stride, tuple) or len(shape) != len(stride):
        return False
    return all(isinstance(n, int) and 0 <= n < 2**63 for n in (offset, *shape, *stride))


def _damaged(path: Path, reason: object) -> CheckpointError:
    return CheckpointError(
        f"{str(path)!r} is truncated or damaged: {reason}",
        fix="Copy or download the file again.",
    )
