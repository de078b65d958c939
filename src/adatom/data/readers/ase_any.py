"""Every other structure format that ASE reads: traj, cif, vasp, ..."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ase import Atoms
from ase.io import read
from ase.io.formats import UnknownFileTypeError, filetype, ioformats

from adatom.core.errors import DataError
from adatom.core.files import require_readable
from adatom.data.frame import Frame
from adatom.data.readers.base import FrameReader, read_bytes, split_suffix


class AseReader(FrameReader):
    """All frames of one file, read at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        require_readable(path)
        if split_suffix(path)[1]:
            with tempfile.TemporaryDirectory() as folder:
                plain = Path(folder) / path.stem
                plain.write_bytes(read_bytes(path))
                self._frames = _read(plain, path)
        else:
            self._frames = _read(path, path)
        if not self._frames:
            raise DataError(f"{str(path)!r} holds no structure")

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def frame(self, i: int) -> Frame:
        """Return frame ``i``."""
        return Frame.of(self._frames[i])


def known_to_ase(path: Path) -> bool:
    """Tell if ASE knows the format from the file's name (without opening the file)."""
    plain = Path(path.stem) if split_suffix(path)[1] else Path(path.name)
    try:
        name = filetype(str(plain), read=False, guess=False)
    except UnknownFileTypeError:
        return False
    return name in ioformats and bool(ioformats[name].can_read)


def _read(file: Path, shown: Path) -> list[Atoms]:
    try:
        frames = read(str(file), index=":")
    # ASE's parsers raise whatever the damaged text led them into.
    except Exception as error:
        raise DataError(
            f"{str(shown)!r} cannot be read by ASE ({type(error).__name__}: {error})",
            expected="a complete structure file",
            fix="Check that the file is whole and has the format that its name says.",
        ) from error
    return list(frames) if isinstance(frames, list) else [frames]
