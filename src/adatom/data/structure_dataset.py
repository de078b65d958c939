"""A sequence of checked structures from files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from ase import Atoms
from ase.data import chemical_symbols

from adatom.core.errors import DataError
from adatom.core.files import sha256_of
from adatom.data.ase_convert import Reading, convert, entries, structure_id
from adatom.data.atomic_data import AtomicData
from adatom.data.label_units import declared_units, merge_units
from adatom.data.labels import label_sources, missing_label
from adatom.data.readers.base import FrameReader
from adatom.data.validation import validate

#: How many rows of a database are searched for a label before it counts as missing.
_PROBE = 20


class StructureDataset(Sequence[AtomicData]):
    """Structures of one level of theory; made by :func:`adatom.data.open_dataset`.

    Structures of ordinary files are converted and checked at once; rows of databases when they
    are asked for.

    Attributes:
        paths: The files.
        dataset: Name of the level of theory, on every structure.
        label_keys: From label to the key it is read from, as found in the first structures.
    """

    def __init__(self, frames: Sequence[tuple[FrameReader, int]], reading: Reading) -> None:
        if not frames:
            raise DataError("The selection holds no structure", fix="Correct the index.")
        self._frames = list(frames)
        self._readings = _readings(frames, reading)
        self.paths = tuple(dict.fromkeys(reader.path for reader, _ in frames))
        self.dataset = reading.dataset
        self._info: dict[int, dict[str, Any]] = {}
        self._units: dict[Path, dict[str, str]] = {}
        self.label_keys = self._find_label_keys(reading)
        self._systems = [
            None if reader.lazy else self._load(i) for i, (reader, _) in enumerate(self._frames)
        ]

    @property
    def path(self) -> str:
        """The file, or all files with commas between them."""
        return ", ".join(map(str, self.paths))

    def __len__(self) -> int:
        """Return the number of structures."""
        return len(self._frames)

    @overload
    def __getitem__(self, index: int) -> AtomicData: ...
    @overload
    def __getitem__(self, index: slice) -> list[AtomicData]: ...
    def __getitem__(self, index: int | slice) -> AtomicData | list[AtomicData]:
        """Return one structure, or a list of them.

        Raises:
            DataError: If a row of a database is damaged or not usable.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        system = self._systems[i]
        return self._load(i) if system is None else system

    def info(self, index: int) -> dict[str, Any]:
        """Return what the file says about a structure besides its labels' arrays.

        Such as ``config_type`` or ``group``: the ``atoms.info`` of the structure.
        """
        i = range(len(self))[index]
        if self._systems[i] is not None:
            return dict(self._info[i])
        reader, row = self._frames[i]
        return dict(reader.atoms(row).info)

    def elements(self) -> list[str]:
        """Return the chemical symbols in all structures, by atomic number."""
        numbers = {z for system in self for z in set(system.atomic_numbers.tolist())}
        return [chemical_symbols[z] for z in sorted(numbers)]

    def fingerprint(self) -> dict[str, Any]:
        """Describe exactly what was read: names and SHA-256 of the files, count, elements.

        ``sha256`` is that of the file, or, for several files, of their SHA-256 in order.
        """
        digests = [sha256_of(path) for path in self.paths]
        joined = hashlib.sha256("".join(digests).encode()).hexdigest()
        return {
            "sha256": digests[0] if len(digests) == 1 else joined,
            "files": [
                {"name": path.name, "sha256": digest}
                for path, digest in zip(self.paths, digests, strict=True)
            ],
            "count": len(self),
            "elements": self.elements(),
            "dataset": self.dataset,
            "label_keys": dict(self.label_keys),
        }

    def _load(self, i: int) -> AtomicData:
        reader, row = self._frames[i]
        reading = self._readings[reader.path]
        atoms = reader.atoms(row)
        sid = structure_id(atoms, reading.key_map, reader.name(row))
        self._check_same_units(reader.path, atoms, sid)
        system = convert(atoms, reading, sid)
        validate(system)
        if not reader.lazy:
            self._info[i] = dict(atoms.info)
        return system

    def _check_same_units(self, path: Path, atoms: Atoms, sid: str) -> None:
        units = declared_units(atoms.info)
        first = self._units.setdefault(path, units)
        if units != first:
            raise DataError(
                f"Mixed units: structure {sid!r} declares {units or 'no units'}, but the "
                f"structures before it in {path.name!r} declare {first or 'none'}",
                fix="Convert the file to one set of units, or split it.",
            )

    def _find_label_keys(self, reading: Reading) -> dict[str, str]:
        """Find which keys hold labels; a label named by the user must be somewhere."""
        found: dict[str, str] = {}
        keys: dict[str, None] = {}
        wanted: Mapping[str, str] = {}
        for reader, row in self._probed(reading):
            wanted = self._readings[reader.path].label_keys or {}
            there = entries(reader.atoms(row))
            keys.update(dict.fromkeys(entry.key for entry in there))
            found = label_sources(there, self._readings[reader.path].label_keys) | found
            if wanted and set(wanted) <= set(found):
                break
        lost = sorted(set(wanted) - set(found))
        if lost:
            raise missing_label(lost[0], keys, wanted, f"{self.path!r}")
        return found

    def _probed(self, reading: Reading) -> list[tuple[FrameReader, int]]:
        searched = reading.label_keys is not None and not any(r.lazy for r, _ in self._frames)
        return self._frames if searched else self._frames[:_PROBE]


def _readings(frames: Sequence[tuple[FrameReader, int]], reading: Reading) -> dict[Path, Reading]:
    """Add to the user's options what each file says of itself."""
    readings = {}
    for reader in {id(reader): reader for reader, _ in frames}.values():
        keys = reader.label_keys if reading.label_keys is None else reading.label_keys
        units = merge_units(reading.units, reader.declared, f"{str(reader.path)!r}")
        readings[reader.path] = replace(reading, label_keys=keys, units=units)
    return readings
