"""What every reader offers: a number of frames, and what the file says about each of them."""

from __future__ import annotations

import bz2
import gzip
import lzma
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from zlib import error as zlib_error

from adatom.core.errors import DataError
from adatom.core.files import require_readable
from adatom.data.frame import Frame

_DECOMPRESS: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType(
    {".xz": lzma.decompress, ".gz": gzip.decompress, ".bz2": bz2.decompress}
)
#: Endings of compressed files that are unpacked in memory.
COMPRESSIONS = tuple(_DECOMPRESS)


class FrameReader(ABC):
    """An open data file.

    Attributes:
        path: The file.
        lazy: Rows are cheap to fetch and too many to hold, so they are read when asked for.
        declared: Units that the file declares for all its frames.
        label_keys: Where this format keeps labels, if it has names of its own, else None.
    """

    path: Path
    lazy: bool = False
    declared: Mapping[str, str] = MappingProxyType({})
    label_keys: Mapping[str, str] | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file that structures are read from."""
        return (self.path,)

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of frames."""

    @abstractmethod
    def frame(self, i: int) -> Frame:
        """Return frame ``i`` (from 0), with everything the file says about it.

        Raises:
            DataError: If this frame is damaged.
        """

    def name(self, i: int) -> str:
        """Return an identifier for a frame that carries none."""
        return f"{self.path.name}:{i}"


def split_suffix(path: Path) -> tuple[str, str]:
    """Return the lower-case format ending and compression ending: ``(".xyz", ".gz")``."""
    compression = path.suffix.lower()
    if compression in _DECOMPRESS:
        return Path(path.stem).suffix.lower(), compression
    return compression, ""


def read_bytes(path: Path) -> bytes:
    """Read a whole file, unpacked in memory if its name says it is compressed.

    Raises:
        FileAccessError: If it is missing, empty or protected.
        DataError: If the compressed data are damaged or cut off.
    """
    raw = require_readable(path).read_bytes()
    decompress = _DECOMPRESS.get(path.suffix.lower())
    if decompress is None:
        return raw
    try:
        return decompress(raw)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib_error) as error:
        raise DataError(
            f"The compressed file {str(path)!r} is damaged or cut off ({error})",
            fix="Copy it again from its source.",
        ) from error
