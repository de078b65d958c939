"""Energies of the same slab and molecule apart, which tell total from adsorption energies.

The adsorption energy of a system is its total energy less its reference energy: that of the clean
slab plus that of the adsorbate in the gas phase (Chanussot et al., ACS Catal. 2021, 11, 6059,
doi:10.1021/acscatal.0c04525, section 2.2).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from adatom.core.errors import DataError, FileAccessError
from adatom.core.files import require_readable
from adatom.data.readers.base import read_bytes, split_suffix

EnergyKind = Literal["total", "adsorption"]

ENERGY_KINDS: tuple[EnergyKind, ...] = ("total", "adsorption")

_LABELS = ("energy", "relaxed_energy")
_ENDINGS = (".txt", ".csv", ".json")


@dataclass(frozen=True, slots=True)
class ReferenceTable:
    """Reference energies of systems.

    Attributes:
        name: Of the file or folder.
        sha256: Of its content.
        energies: From sid to eV.
    """

    name: str
    sha256: str
    energies: Mapping[str, float] = field(repr=False)

    def energy(self, sid: Any, where: str) -> float:
        """Return the reference energy of a system, eV.

        Args:
            sid: Its identifier in the data file.
            where: Names the structure in messages.

        Raises:
            DataError: If the structure has no sid, or the table not that one.
        """
        if sid is None:
            raise DataError(
                f"{where} has no sid, by which its reference energy in {self.name!r} is found",
                fix="Name its key with key_map.sid.",
            )
        energy = self.energies.get(_plain(str(sid)))
        if energy is None:
            raise DataError(
                f"{where} has the sid {str(sid)!r}, which has no reference energy in {self.name!r}",
                fix="Add it to the table, or leave the structure out.",
            )
        return energy


@dataclass(frozen=True, slots=True)
class EnergyChoice:
    """What the energies of a dataset are, and how they are made of those in the file.

    Attributes:
        kind: ``adsorption`` takes the file's energies as total and subtracts the references;
            ``total`` takes them as adsorption energies and adds the references.
        references: None takes the file's energies as they are.
    """

    kind: EnergyKind
    references: ReferenceTable | None

    def applied(
        self, labels: Mapping[str, npt.NDArray[np.float64]], sid: Any, where: str
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Return labels with the energies changed; derivatives stay as they are.

        Args:
            labels: Of one structure, in eV.
            sid: Its identifier in the data file.
            where: Names it in messages.

        Raises:
            DataError: If there is no reference energy for it.
        """
        present = [name for name in _LABELS if name in labels]
        if not present:
            return dict(labels)
        shift = self.shift(sid, where)
        return {**labels, **{name: labels[name] + shift for name in present}}

    def shift(self, sid: Any, where: str) -> float:
        """Return what is added to the energies of a structure, eV; see :meth:`applied`."""
        if self.references is None:
            return 0.0
        energy = self.references.energy(sid, where)
        return -energy if self.kind == "adsorption" else energy

    def describe(self) -> dict[str, Any]:
        """Return the choice as plain JSON values, for the metadata of a checkpoint."""
        if self.references is None:
            return {"kind": self.kind, "references": None}
        rule = "subtracted" if self.kind == "adsorption" else "added"
        table = {"name": self.references.name, "sha256": self.references.sha256}
        return {"kind": self.kind, "references": {**table, "rule": rule}}


def read_reference_energies(path: Path) -> ReferenceTable:
    """Read a table: lines ``sid energy`` or ``sid frame energy``, or a JSON object from sid to eV.

    Columns are separated by commas or blanks; the energy is the last. The word ``random`` before
    a number, which some files of the Open Catalyst Project have and others not, does not count.

    Args:
        path: Ends in ``.txt``, ``.csv`` or ``.json``, also compressed; or a folder of these.

    Raises:
        FileAccessError: If there is no such file.
        DataError: If a line cannot be read, or a sid has two different energies.
    """
    files = _tables(path)
    energies: dict[str, float] = {}
    digest = hashlib.sha256()
    for file in files:
        content = read_bytes(file)
        digest.update(content)
        for sid, energy, place in _rows(content, file):
            known = energies.setdefault(sid, energy)
            if abs(known - energy) > 1e-6:
                raise DataError(
                    f"{place} gives the sid {sid!r} the reference energy {energy} eV, and a line "
                    f"before {known} eV",
                    expected="one for each sid",
                )
    return ReferenceTable(path.name, digest.hexdigest(), energies)


def frame_names(folder: Path, stem: str) -> list[tuple[str, int]] | None:
    """Return sid and number of every frame of ``stem``, as a table beside the frames has them.

    The Open Catalyst Project publishes frames (``0.extxyz.xz``) without them; the lines of
    ``0.txt.xz`` have ``sid,frame,energy`` in the same order.

    Args:
        folder: Of the tables.
        stem: Name of the file with the frames, without endings.

    Returns:
        None if there is no such table.

    Raises:
        DataError: If its lines are others.
    """
    for file in _tables(folder):
        if file.name.partition(".")[0] != stem:
            continue
        names = []
        for line in read_bytes(file).decode(errors="replace").splitlines():
            match = re.fullmatch(r"\s*(\S+?)[,\s]+(?:frame)?(\d+)[,\s]+\S+\s*", line)
            if match is None:
                raise DataError(f"{str(file)!r} has the line {line!r}", expected="sid,frame,energy")
            names.append((match[1], int(match[2])))
        return names
    return None


def _tables(path: Path) -> list[Path]:
    if not path.is_dir():
        require_readable(path)
        if split_suffix(path)[0] not in _ENDINGS:
            raise DataError(
                f"{str(path)!r} is no table of reference energies",
                expected=f"a file ending in {', '.join(_ENDINGS)}",
                fix="Write a pickle as JSON where it was made: it is a program, not data.",
            )
        return [path]
    inside = sorted(p for p in path.iterdir() if split_suffix(p)[0] in _ENDINGS and p.is_file())
    if not inside:
        raise FileAccessError(
            f"The folder {str(path)!r} holds no table of reference energies",
            expected=f"files ending in {', '.join(_ENDINGS)}",
        )
    return inside


def _rows(content: bytes, file: Path) -> Iterable[tuple[str, float, str]]:
    try:
        text = content.decode()
        rows: Iterable[tuple[str, Any, str]]
        if split_suffix(file)[0] == ".json":
            rows = [(sid, energy, str(file)) for sid, energy in json.loads(text).items()]
        else:
            rows = _lines(text, file)
    except (ValueError, AttributeError) as error:
        raise DataError(f"{str(file)!r} is damaged ({error})", expected="sid and energy") from error
    for sid, value, place in rows:
        try:
            energy = float(value)
        except (TypeError, ValueError):
            energy = math.nan
        if not math.isfinite(energy):
            raise DataError(f"{place} has {value!r}", expected="a reference energy in eV")
        yield _plain(sid), energy, place


def _lines(text: str, file: Path) -> list[tuple[str, str, str]]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = re.split(r"[,\s]+", line.strip().strip(","))
        if words == [""] or line.lstrip().startswith("#"):
            continue
        place = f"Line {number} of {str(file)!r}"
        if len(words) not in (2, 3):
            raise DataError(f"{place} has {len(words)} columns", expected="sid, energy")
        rows.append((words[0], words[-1], place))
    return rows


def _plain(sid: str) -> str:
    return re.sub(r"^random(?=\d+$)", "", sid)
