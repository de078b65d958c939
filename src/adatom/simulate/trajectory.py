"""Trajectory files (ASE ``.traj``: binary, exact, appended frame by frame)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io.trajectory import TrajectoryReader, TrajectoryWriter
from ase.io.ulm import InvalidULMFileError

from adatom.core.errors import DataError
from adatom.core.files import require_readable

#: Where a frame keeps what a restart needs.
KEY = "adatom_md"


class FrameWriter:
    """Appends frames; made by :func:`writing`."""

    def __init__(self, writer: TrajectoryWriter) -> None:
        self._writer = writer

    def write(self, atoms: Atoms, facts: dict[str, Any] | None = None) -> None:
        """Write positions, momenta, cell and the calculator's present results.

        Args:
            atoms: The frame; left as it is.
            facts: Plain JSON values, found again by :func:`last_frame`.
        """
        frame = atoms.copy()
        frame.calc = atoms.calc
        if facts is not None:
            frame.info[KEY] = facts
        self._writer.write(frame)


@contextmanager
def writing(path: str | os.PathLike[str], *, append: bool) -> Iterator[FrameWriter]:
    """Open a trajectory for writing; missing folders are made.

    A frame counts only once it is complete, so a killed run leaves a readable file.

    Args:
        path: The file.
        append: Keep the frames that are there.

    Yields:
        An object with ``write(atoms, facts)``.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    writer = TrajectoryWriter(os.fspath(path), "a" if append else "w")
    try:
        yield FrameWriter(writer)
    finally:
        writer.close()


def has_frames(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file has anything in it that a run may have left.

    A run that was killed before its first frame was complete leaves a trajectory without any.
    What is not a trajectory at all counts as something.
    """
    file = Path(path)
    if not file.exists() or file.stat().st_size == 0:
        return False
    try:
        with TrajectoryReader(os.fspath(file)) as reader:
            return len(reader) > 0
    except InvalidULMFileError:
        return True


def last_frame(path: str | os.PathLike[str]) -> tuple[Atoms, dict[str, Any]]:
    """Read the last frame of a molecular dynamics run and the facts written with it.

    Raises:
        FileAccessError: If there is no such file.
        DataError: If it is not a trajectory of adatom's molecular dynamics, or has no frame.
    """
    file = require_readable(path)
    try:
        reader = TrajectoryReader(os.fspath(file))
        try:
            atoms = reader[-1] if len(reader) else None
        finally:
            reader.close()
    except (InvalidULMFileError, OSError, ValueError, KeyError, IndexError) as error:
        raise DataError(
            f"The trajectory {str(path)!r} cannot be read ({error})",
            expected="an ASE trajectory written by adatom md",
        ) from error
    facts = None if atoms is None else atoms.info.pop(KEY, None)
    if atoms is None or facts is None:
        raise DataError(
            f"The trajectory {str(path)!r} has nothing to restart from",
            expected="a trajectory written by adatom md",
        )
    return atoms, facts
