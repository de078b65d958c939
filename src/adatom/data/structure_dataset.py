"""A sequence of checked structures from files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
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
        self._readings = _readings(frames, reading)
        self.paths = tuple(dict.fromkeys(reader.path for reader, _ in frames))
        self.dataset = reading.dataset
        self._units: dict[Path, dict[str, str]] = {}
        self.label_keys = self._find_label_keys(frames, reading)
        self._infos: dict[int, dict[str, Any]] = {}
        # Rows of databases; readers of other files are let go with the text they hold.
        self._rows = {i: frame for i, frame in enumerate(frames) if frame[0].lazy}
        self._systems: list[AtomicData | None] = []
        for i, (reader, row) in enumerate(frames):
            system = None
            if not reader.lazy:
                atoms = reader.atoms(row)
                system = self._convert(atoms, reader, row)
                self._infos[i] = dict(atoms.info)
            self._systems.append(system)

    @property
    def path(self) -> str:
        """The file, or all files with commas between them."""
        return ", ".join(map(str, self.paths))

    def __len__(self) -> int:
        """Return the number of structures."""
        return len(self._systems)

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
        if system is not None:
            return system
        reader, row = self._rows[i]
        return self._convert(reader.atoms(row), reader, row)

    def info(self, index: int) -> dict[str, Any]:
        """Return the ``atoms.info`` of a structure, such as its ``config_type`` or ``group``."""
        i = range(len(self))[index]
        if i in self._infos:
            return dict(self._infos[i])
        reader, row = self._rows[i]
        return dict(reader.atoms(row).info)

    def with_info(self) -> Iterator[tuple[AtomicData, dict[str, Any]]]:
        """Go through the structures once, each with its ``info``; rows of files are parsed once.

        Yields:
            The structure and its ``atoms.info``.

        Raises:
            DataError: If a row of a database is damaged or not usable.
        """
        for i, system in enumerate(self._systems):
            if system is not None:
                yield system, dict(self._infos[i])
                continue
            reader, row = self._rows[i]
            atoms = reader.atoms(row)
            yield self._convert(atoms, reader, row), dict(atoms.info)

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

    def _convert(self, atoms: Atoms, reader: FrameReader, row: int) -> AtomicData:
        reading = self._readings[reader.path]
        sid = structure_id(atoms, reading.key_map, reader.name(row))
        self._check_same_units(reader.path, atoms, sid)
        system = convert(atoms, reading, sid)
        validate(system)
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

    def _find_label_keys(
        self, frames: Sequence[tuple[FrameReader, int]], reading: Reading
    ) -> dict[str, str]:
        """Find which keys hold labels; a label named by the user must be somewhere."""
        named = reading.label_keys
        if named is None or any(reader.lazy for reader, _ in frames):
            frames = frames[:_PROBE]
        found: dict[str, str] = {}
        keys: dict[str, None] = {}
        for reader, row in frames:
            there = entries(reader.atoms(row))
            keys.update(dict.fromkeys(entry.key for entry in there))
            found = label_sources(there, self._readings[reader.path].label_keys) | found
            if named is not None and set(named) <= set(found):
                break
        lost = sorted(set(named or ()) - set(found))
        if lost:
            raise missing_label(lost[0], keys, named, f"{self.path!r}")
        return found


def _readings(frames: Sequence[tuple[FrameReader, int]], reading: Reading) -> dict[Path, Reading]:
    """Add to the user's options what each file says of itself."""
    readings = {}
    for reader in {id(reader): reader for reader, _ in frames}.values():
        keys = reader.label_keys if reading.label_keys is None else reading.label_keys
        units = merge_units(reading.units, reader.declared, f"{str(reader.path)!r}")
        readings[reader.path] = replace(reading, label_keys=keys, units=units)
    return readings
