"""ASE trajectories (``.traj``): frames by number, without reading those between."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from ase.io.trajectory import TrajectoryReader

from adatom.core.errors import DataError
from adatom.core.files import require_readable
from adatom.data.frame import Frame
from adatom.data.readers.base import FrameReader, read_bytes, split_suffix


class AseTrajReader(FrameReader):
    """Frames of one trajectory.

    The format is JSON and plain arrays: nothing in the file is executed. Frames without an
    identifier get the name of the file as ``sid`` and their number as ``fid``: a trajectory is of
    one system.
    """

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            DataError: If it is no such file, is cut off, or has no frames.
        """
        self.path = path
        require_readable(path)
        packed = split_suffix(path)[1]
        self._content = read_bytes(path) if packed else None
        self._sid = Path(path.stem).stem if packed else path.stem
        self._count: int = self._read(len)
        if not self._count:
            raise DataError(f"{str(path)!r} holds no structure")

    def __len__(self) -> int:
        """Return the number of frames."""
        return self._count

    def frame(self, i: int) -> Frame:
        """Return frame ``i``.

        Raises:
            DataError: If it is damaged.
        """
        frame: Frame = self._read(lambda trajectory: Frame.of(trajectory[i]))
        if "sid" not in frame.info:
            frame.info |= {"sid": self._sid, "fid": i}
        return frame

    def _read(self, what: Any) -> Any:
        # Opened per use: thousands of trajectories may be in use at the same time.
        stream = BytesIO(self._content) if self._content is not None else self.path.open("rb")
        try:
            with stream:
                return what(TrajectoryReader(stream))
        # A damaged file raises whatever its bytes led ASE into.
        except Exception as error:
            raise DataError(
                f"{str(self.path)!r} cannot be read by ASE as a trajectory "
                f"({type(error).__name__}: {error})",
                fix="Copy it again from its source.",
            ) from error
