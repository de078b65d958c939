"""Lines of a text file that is too large to be held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from adatom.core.errors import DataError

_CHUNK = 1 << 24


class LinesOnDisk:
    """The lines of a file, without line ends, read when asked for.

    Only the offset of each line is kept: 8 bytes per line.

    Args:
        path: An uncompressed UTF-8 text file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        ends = np.concatenate(list(self._line_ends()) or [np.zeros(0, np.int64)])
        size = path.stat().st_size
        self.ends_whole = bool(len(ends)) and int(ends[-1]) == size
        self._bounds = np.concatenate([[0], ends, [] if self.ends_whole else [size]])
        self._bounds = self._bounds.astype(np.int64)

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> list[str]: ...
    def __getitem__(self, key: int | slice) -> str | list[str]:
        """Read one line, or consecutive lines.

        Raises:
            DataError: If they are not text.
        """
        if isinstance(key, int):
            i = range(len(self))[key]
            return self._read(i, i + 1)[0]
        first, last, _ = key.indices(len(self))
        return self._read(first, last)

    def _line_ends(self) -> Iterator[npt.NDArray[np.int64]]:
        start = 0
        with self._path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                newlines = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n"))
                yield newlines + (start + 1)
                start += len(chunk)

    def _read(self, first: int, last: int) -> list[str]:
        if last <= first:
            return []
        start, end = int(self._bounds[first]), int(self._bounds[last])
        with self._path.open("rb") as stream:
            stream.seek(start)
            raw = stream.read(end - start)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"Line {first + 1} or a later one of {str(self._path)!r} is not text",
                expected="extended XYZ",
            ) from error
        return text.removesuffix("\n").split("\n")
