"""Frames whose identifiers are in another file."""

from __future__ import annotations

from collections.abc import Sequence

from adatom.core.errors import DataError
from adatom.data.frame import Frame
from adatom.data.readers.base import FrameReader


class NamedFrameReader(FrameReader):
    """Frames of a file, with ``sid`` and ``fid`` from elsewhere where they have none.

    Args:
        frames: The file.
        names: ``(sid, fid)`` of every frame.

    Raises:
        DataError: If there are not as many.
    """

    def __init__(self, frames: FrameReader, names: Sequence[tuple[str, int]]) -> None:
        self.path, self.lazy = frames.path, frames.lazy
        self.declared, self.label_keys = frames.declared, frames.label_keys
        if len(names) != len(frames):
            raise DataError(
                f"{str(self.path)!r} has {len(frames)} frames, and the table of its reference "
                f"energies {len(names)} lines",
                expected="one line for each frame",
            )
        self._frames, self._names = frames, names

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def frame(self, i: int) -> Frame:
        """Return frame ``i``."""
        frame = self._frames.frame(i)
        if "sid" not in frame.info:
            sid, fid = self._names[i]
            frame.info |= {"sid": sid, "fid": fid}
        return frame

    def name(self, i: int) -> str:
        """Return the name that the file gives."""
        return self._frames.name(i)
