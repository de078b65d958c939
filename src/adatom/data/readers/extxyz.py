"""Extended XYZ (and plain XYZ), also compressed."""

from __future__ import annotations

import io
import re
from pathlib import Path

from ase import Atoms
from ase.io.extxyz import read_xyz

from adatom.core.errors import DataError, FileAccessError
from adatom.core.files import require_readable
from adatom.data.frame import Frame
from adatom.data.readers.base import COMPRESSIONS, FrameReader, read_bytes
from adatom.data.readers.lines_on_disk import LinesOnDisk

_PROPERTIES = re.compile(r"""\bproperties\s*=\s*["']?([^\s"']+)""", re.IGNORECASE)
_CUT_NUMBER = re.compile(r"[-+.eE]$")

#: Bytes above which an uncompressed file is not held in memory.
LARGE = 1 << 26


class ExtxyzReader(FrameReader):
    """Frames of one file, found once and parsed when asked for.

    The text is held in memory (seeking in a compressed file makes reading quadratic), but that of
    large uncompressed files stays on the disk, and their frames are read when asked for.
    A half-written last frame is an error when it is asked for; those before it can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[str] | LinesOnDisk
        if require_readable(path).stat().st_size > LARGE and path.suffix not in COMPRESSIONS:
            self.lazy = True
            self._lines = LinesOnDisk(path)
            self._ends_whole = self._lines.ends_whole
        else:
            text = self._text()
            self._ends_whole = text.endswith("\n")
            # Not splitlines(), which would also split at form feeds and the like in a comment.
            self._lines = text.removesuffix("\n").split("\n")
        self._starts = self._find_frames()
        if not self._starts:
            raise FileAccessError(f"The file {str(path)!r} is empty", expected="at least one frame")

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._starts)

    def frame(self, i: int) -> Frame:
        """Parse frame ``i``.

        Raises:
            DataError: If a line has the wrong columns or cannot be read.
        """
        start = self._starts[i]
        end = start + 2 + int(self._lines[start])
        if end > len(self._lines):
            there = max(len(self._lines) - start - 2, 0)
            self._raise_cut(f"has {there} of its {self._lines[start].strip()} atoms")
        while end < len(self._lines) and self._lines[end].lstrip().startswith("VEC"):
            end += 1
        lines = self._lines[start:end]
        self._check_columns(lines, i)
        try:
            atoms: Atoms = next(read_xyz(io.StringIO("\n".join(lines) + "\n"), slice(0, 1)))
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise DataError(
                f"{self._where(i)} cannot be read ({type(error).__name__}: {error})",
                fix="Correct or remove this frame.",
            ) from error
        return Frame.of(atoms)

    def _text(self) -> str:
        try:
            return read_bytes(self.path).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{str(self.path)!r} is not a text file", expected="extended XYZ"
            ) from error

    def _where(self, i: int) -> str:
        return f"Frame {i} (counted from 0, line {self._starts[i] + 1}) of {str(self.path)!r}"

    def _find_frames(self) -> list[int]:
        self._starts = []
        line, total = 0, len(self._lines)
        while line < total:
            first = self._lines[line].strip()
            if not first or first.startswith("VEC"):
                line += 1
                continue
            self._starts.append(line)
            if not first.isdecimal() or int(first) == 0:
                raise DataError(
                    f"{self._where(len(self._starts) - 1)} begins with {first[:40]!r}",
                    expected="the number of atoms",
                    fix="Check the number of atoms of the frame before it.",
                )
            line += 2 + int(first)
        return self._starts

    def _check_columns(self, lines: list[str], i: int) -> None:
        match = _PROPERTIES.search(lines[1])
        if match is None:
            return
        fields = match.group(1).split(":")
        if len(fields) % 3 or not all(width.isdecimal() for width in fields[2::3]):
            raise DataError(
                f"{self._where(i)} has Properties={match.group(1)!r}",
                expected="name:type:columns triples such as species:S:1:pos:R:3",
            )
        expected = sum(int(width) for width in fields[2::3])
        last = i == len(self._starts) - 1
        for number, line in enumerate(lines[2 : 2 + int(lines[0])]):
            found = len(line.split())
            if found != expected:
                if last and number == int(lines[0]) - 1 and found < expected:
                    self._raise_cut(f"has {found} of {expected} columns in its last line")
                raise DataError(
                    f"{self._where(i)} has {found} columns for atom {number}",
                    expected=f"{expected} columns, as its Properties say",
                )
        if last and not self._ends_whole and _cut_number(lines):
            self._raise_cut(f"ends inside the number {lines[-1].split()[-1]!r}")

    def _raise_cut(self, found: str) -> None:
        i = len(self._starts) - 1
        keep = f"keep the first {i} frames with index=':{i}'" if i else "write the file again"
        raise DataError(
            f"{self._where(i)} is half-written: it {found}",
            expected="a complete last frame",
            fix=f"Finish writing the file, or {keep}.",
        )


def _cut_number(lines: list[str]) -> bool:
    """Tell if the very last number has fewer decimals than the one above it."""
    last = lines[-1].split()[-1]
    if _CUT_NUMBER.search(last):
        return True
    above = lines[-2].split()[-1] if len(lines) > 3 else last
    if "." not in above or "e" in above.lower():
        return False
    return len(last.partition(".")[2]) < len(above.partition(".")[2])
