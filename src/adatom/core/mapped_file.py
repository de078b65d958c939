"""Large files as tensors that are read when they are used, and forgotten when memory is needed.

The mapping is private: a tensor can be written to, and the file never changes. A file must not be
shortened while tensors of it are in use; replace it by renaming, as ``core.files.atomic_write``.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import torch

#: Below this many bytes a tensor is copied: a page is no saving for it, and alignment may be.
_COPIED_BYTES = 2**20
_CHUNK_BYTES = 2**20


class MappedFile:
    """An open file whose tensors appear in memory page by page.

    Use it as a context; tensors stay valid afterwards.

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb")
        self.num_bytes = path.stat().st_size
        self._map: mmap.mmap | None = None
        try:
            self._map = mmap.mmap(self._stream.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError):
            # Some network file systems cannot map; then everything is read.
            self._map = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        # Tensors hold the mapping; closing it here would be an error.
        self._map = None

    def tensor(self, start: int, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a tensor of the file's bytes; large ones are not read yet.

        Args:
            start: First byte.
            dtype: Of the stored numbers.
            shape: Row-major.

        Raises:
            EOFError: If the file ends before the tensor.
        """
        count = math.prod(shape)
        size = count * dtype.itemsize
        if start < 0 or start + size > self.num_bytes:
            raise EOFError(f"a tensor of {size} bytes starts at byte {start} of {self.num_bytes}")
        if not count:
            return torch.empty(shape, dtype=dtype)
        if self._map is None or size < _COPIED_BYTES or start % dtype.itemsize:
            return torch.frombuffer(self._bytes(start, size), dtype=dtype).view(shape)
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=start).view(shape)

    def chunks(self, start: int, size: int) -> Iterator[memoryview]:
        """Yield the bytes of a range piece by piece, without touching the mapping's pages.

        Each piece is overwritten by the next one.

        Raises:
            EOFError: If the file ends before the range does.
        """
        buffer = memoryview(bytearray(min(size, _CHUNK_BYTES)))
        self._stream.seek(start)
        while size > 0:
            read = self._stream.readinto(buffer[:size])
            if not read:
                raise EOFError("the file ends too early")
            yield buffer[:read]
            size -= read

    def _bytes(self, start: int, size: int) -> bytearray:
        data = bytearray(size)
        self._stream.seek(start)
        if self._stream.readinto(data) != size:
            raise EOFError("the file ends too early")
        return data


def release_pages(tensor: torch.Tensor) -> bool:
    """Give the memory of a mapped tensor back until it is used again.

    Args:
        tensor: Any tensor; nothing happens if it is not mapped from a file, or if anything in that
            mapping was written to.

    Returns:
        Whether memory was given back.
    """
    if not sys.platform.startswith("linux") or tensor.device.type != "cpu":
        return False
    start = tensor.data_ptr()
    stop = start + tensor.numel() * tensor.element_size()
    if not _is_clean_mapping(start, stop):
        return False
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    length = stop // mmap.PAGESIZE * mmap.PAGESIZE - first
    if length <= 0:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), mmap.MADV_DONTNEED) == 0
    )


_REGION = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+)")


def _is_clean_mapping(start: int, stop: int) -> bool:
    """Whether the addresses lie in one private file mapping of which no page was written to."""
    inside = False
    with Path("/proc/self/smaps").open() as lines:
        for line in lines:
            region = _REGION.match(line)
            if region:
                low, high = (int(text, 16) for text in region.group(1, 2))
                inside = low <= start and stop <= high and region.group(4) != "0"
            elif inside and line.startswith("Anonymous:"):
                return int(line.split()[1]) == 0
    return False
