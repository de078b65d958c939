"""A sequence of checked structures from files."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, overload

import numpy as np
from ase.data import chemical_symbols

from adatom.core.errors import DataError
from adatom.core.files import sha256_of
from adatom.data.ase_convert import Reading, convert, entries, structure_id
from adatom.data.atomic_data import AtomicData
from adatom.data.frame import Frame
from adatom.data.label_units import declared_units, merge_units
from adatom.data.labels import label_sources, missing_label
from adatom.data.readers.base import FrameReader
from adatom.data.validation import check_overlap

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
        is_lazy: Every structure is read from its file each time it is asked for.
    """

    def __init__(
        self,
        files: Sequence[tuple[FrameReader, Sequence[int]]],
        reading: Reading,
        *,
        lazy: bool = False,
    ) -> None:
        files = [(reader, rows) for reader, rows in files if len(rows)]
        if not files:
            raise DataError("The selection holds no structure", fix="Correct the index.")
        self._rows = [np.asarray(rows, dtype=np.int64) for _, rows in files]
        self._ends = list(accumulate(len(rows) for rows in self._rows))
        self._readings = _readings([reader for reader, _ in files], reading)
        self.paths = tuple(dict.fromkeys(path for reader, _ in files for path in reader.paths))
        self.dataset = reading.dataset
        self._units: dict[int, dict[str, str]] = {}
        self._is_checked = np.zeros(len(self), dtype=bool)
        # Readers of other files than databases are let go with the text they hold.
        self._readers: list[FrameReader | None] = [reader for reader, _ in files]
        self.is_lazy = lazy or all(reader.lazy for reader, _ in files)
        self.label_keys = self._find_label_keys(reading, tolerant=lazy)
        self._kept: dict[int, tuple[AtomicData, dict[str, Any]]] = {}
        for number, (reader, rows) in enumerate(files):
            if not (lazy or reader.lazy):
                start = self._ends[number] - len(rows)
                self._kept |= {start + i: self._read(start + i) for i in range(len(rows))}
                self._readers[number] = None

    @property
    def sid_key(self) -> str:
        """The key in ``info`` that holds the identifier of a structure."""
        return self._readings[0].key_map.get("sid", "sid")

    @property
    def path(self) -> str:
        """The file, or all files with commas between them."""
        return ", ".join(map(str, self.paths))

    def __len__(self) -> int:
        """Return the number of structures."""
        return self._ends[-1]

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
        return self._kept[i][0] if i in self._kept else self._read(i)[0]

    def name(self, index: int) -> str:
        """Return the file and number of a structure, which may be damaged."""
        i = range(len(self))[index]
        number = bisect_right(self._ends, i)
        rows, reader = self._rows[number], self._readers[number]
        row = int(rows[i - self._ends[number]])
        return reader.name(row) if reader is not None else self._kept[i][0].sid[0]

    def info(self, index: int) -> dict[str, Any]:
        """Return the ``atoms.info`` of a structure, such as its ``config_type`` or ``group``."""
        i = range(len(self))[index]
        return dict(self._kept[i][1]) if i in self._kept else self._frame(i)[0].info

    def structure(self, index: int) -> tuple[AtomicData, dict[str, Any]]:
        """Return a structure and its ``atoms.info``.

        Raises:
            DataError: If a row of a database is damaged or not usable.
        """
        i = range(len(self))[index]
        system, info = self._kept[i] if i in self._kept else self._read(i)
        return system, dict(info)

    def with_info(self) -> Iterator[tuple[AtomicData, dict[str, Any]]]:
        """Go through the structures once, each with its ``info``; rows of files are parsed once.

        Yields:
            The structure and its ``atoms.info``.

        Raises:
            DataError: If a row of a database is damaged or not usable.
        """
        for i in range(len(self)):
            yield self.structure(i)

    def elements(self) -> list[str]:
        """Return the chemical symbols in all structures, by atomic number."""
        numbers = {z for system in self for z in set(system.atomic_numbers.tolist())}
        return [chemical_symbols[z] for z in sorted(numbers)]

    def identity(self) -> str:
        """Return a text that differs if other files, rows or labels would be read.

        Files are told apart by name, size and time of change, so that no file has to be read.
        """
        files = [(str(path.resolve()), path.stat()) for path in self.paths]
        parts = [(name, status.st_size, status.st_mtime_ns) for name, status in files]
        digest = hashlib.sha256(repr((parts, self._readings)).encode())
        for rows in self._rows:
            digest.update(rows.tobytes())
        return digest.hexdigest()

    def fingerprint(self, elements: Sequence[str] | None = None) -> dict[str, Any]:
        """Describe exactly what was read: names and SHA-256 of the files, count, elements.

        ``sha256`` is that of the file, or, for several files, of their SHA-256 in order.

        Args:
            elements: Chemical symbols in all structures, if they are known already.
        """
        choice = self._readings[0].energies
        digests = [sha256_of(path) for path in self.paths]
        joined = hashlib.sha256("".join(digests).encode()).hexdigest()
        return {
            "sha256": digests[0] if len(digests) == 1 else joined,
            "files": [
                {"name": path.name, "sha256": digest}
                for path, digest in zip(self.paths, digests, strict=True)
            ],
            "count": len(self),
            "elements": self.elements() if elements is None else list(elements),
            "dataset": self.dataset,
            "label_keys": dict(self.label_keys),
            **({} if choice is None else {"energies": choice.describe()}),
        }

    def trust(self) -> None:
        """Take it as known that every structure is usable, so that reading need not look again.

        Each structure is checked the first time that it is read; a caller that went through all
        of them before, in this or another process, spares that.
        """
        self._is_checked[:] = True

    def _frame(self, i: int) -> tuple[Frame, int, str]:
        """Return what a file says about structure ``i``, the file's number and a default name."""
        number = bisect_right(self._ends, i)
        rows, reader = self._rows[number], self._readers[number]
        if reader is None:
            raise DataError(f"Structure {i} has been read already")
        row = int(rows[i - self._ends[number]])
        return reader.frame(row), number, reader.name(row)

    def _read(self, i: int) -> tuple[AtomicData, dict[str, Any]]:
        frame, number, name = self._frame(i)
        reading = self._readings[number]
        sid = structure_id(frame, reading.key_map, name)
        if self._is_checked[i]:
            return convert(frame, reading, sid, check=False), frame.info
        self._check_same_units(number, frame, sid)
        system = convert(frame, reading, sid)
        check_overlap(system)
        self._is_checked[i] = True
        return system, frame.info

    def _check_same_units(self, number: int, frame: Frame, sid: str) -> None:
        units = declared_units(frame.info)
        first = self._units.setdefault(number, units)
        if units != first:
            raise DataError(
                f"Mixed units: structure {sid!r} declares {units or 'no units'}, but the "
                f"structures before it in the file declare {first or 'none'}",
                fix="Convert the file to one set of units, or split it.",
            )

    def _find_label_keys(self, reading: Reading, *, tolerant: bool) -> dict[str, str]:
        """Find which keys hold labels; a label named by the user must be somewhere."""
        named = reading.label_keys
        few = named is None or any(reader and reader.lazy for reader in self._readers)
        count = min(len(self), _PROBE) if few else len(self)
        found: dict[str, str] = {}
        keys: dict[str, None] = {}
        for i in range(count):
            try:
                frame, number, _ = self._frame(i)
            except DataError:
                if tolerant:
                    continue  # raised when this structure is asked for
                raise
            there = entries(frame)
            keys.update(dict.fromkeys(entry.key for entry in there))
            found = label_sources(there, self._readings[number].label_keys) | found
            if named is not None and set(named) <= set(found):
                break
        lost = sorted(set(named or ()) - set(found))
        if lost:
            raise missing_label(lost[0], keys, named, f"{self.path!r}")
        return found


def _readings(readers: Sequence[FrameReader], reading: Reading) -> list[Reading]:
    """Add to the user's options what each file says of itself."""
    readings = []
    for reader in readers:
        keys = reader.label_keys if reading.label_keys is None else reading.label_keys
        units = merge_units(reading.units, reader.declared, f"{str(reader.path)!r}")
        readings.append(replace(reading, label_keys=keys, units=units))
    return readings
