"""Initial structures with the energy and positions of the relaxed ones: the labels of IS2RE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from adatom.core.errors import ConfigError, DataError, unknown_name
from adatom.data.ase_convert import entries
from adatom.data.frame import Frame
from adatom.data.labels import label_sources, raw_energy
from adatom.data.readers.base import FrameReader

#: Where the frames of this module have the labels of the relaxed structure.
_RELAXED_KEYS = {"relaxed_energy": "relaxed_energy", "relaxed_pos": "relaxed_pos"}


class RelaxationReader(FrameReader):
    """One relaxation: the first frame of a file, with energy and positions of the last.

    Args:
        frames: All frames of the file, in order.
        label_keys: The user's; its ``energy`` names that of the last frame.

    Raises:
        DataError: If there is one frame only, the last has no energy, or its atoms are others.
    """

    def __init__(self, frames: FrameReader, label_keys: Mapping[str, str] | None) -> None:
        self.path, self.declared = frames.path, frames.declared
        self.label_keys = _and_relaxed(frames.label_keys)
        if len(frames) < 2:
            raise DataError(
                f"{str(self.path)!r} has one frame", expected="the frames of a relaxation"
            )
        keys = frames.label_keys if label_keys is None else label_keys
        last = frames.frame(len(frames) - 1)
        where = f"The relaxation {str(self.path)!r}"
        self._frame = _relaxing_to(frames.frame(0), last, keys, where)
        self._frame.info.pop("fid", None)

    def __len__(self) -> int:
        """Return 1."""
        return 1

    def frame(self, i: int) -> Frame:
        """Return the initial structure."""
        del i
        return replace(self._frame)

    def name(self, i: int) -> str:
        """Return the name of the file."""
        del i
        return self.path.name


@dataclass(slots=True)
class RelaxedStructures:
    """Relaxed structures, found by their sid, or by their place where they have none.

    Attributes:
        readers: Their files.
        places: ``(file, frame)`` in the order of the files.
        by_sid: From sid to a position in ``places``; None if a structure has no sid.
    """

    readers: Sequence[FrameReader]
    places: list[tuple[int, int]]
    by_sid: dict[str, int] | None

    @classmethod
    def of(cls, readers: Sequence[FrameReader], sid_key: str) -> RelaxedStructures:
        """Look at every structure once.

        Raises:
            DataError: If two have the same sid.
        """
        places = [(number, i) for number, r in enumerate(readers) for i in range(len(r))]
        sids = [readers[number].frame(i).info.get(sid_key) for number, i in places]
        if any(sid is None for sid in sids):
            return cls(readers, places, None)
        by_sid: dict[str, int] = {}
        for position, sid in enumerate(map(str, sids)):
            if sid in by_sid:
                raise DataError(f"Two relaxed structures have the sid {sid!r}", expected="one")
            by_sid[sid] = position
        return cls(readers, places, by_sid)

    def frame(self, position: int) -> Frame:
        """Return the structure at a position."""
        number, i = self.places[position]
        return self.readers[number].frame(i)


class PairReader(FrameReader):
    """Initial structures of one file, each with energy and positions of its relaxed one.

    Args:
        initial: The file.
        relaxed: Where the relaxed structures are.
        start: Position of the first structure among all initial ones.
        label_keys: The user's; its ``energy`` names that of the relaxed structures too.
        sid_key: Where structures have their sid.
    """

    def __init__(
        self,
        initial: FrameReader,
        relaxed: RelaxedStructures,
        start: int,
        label_keys: Mapping[str, str] | None,
        sid_key: str,
    ) -> None:
        self.path, self.lazy, self.declared = initial.path, initial.lazy, initial.declared
        self.label_keys = _and_relaxed(initial.label_keys)
        self._initial, self._relaxed, self._start = initial, relaxed, start
        self._keys = initial.label_keys if label_keys is None else label_keys
        self._sid_key = sid_key

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file and those of the relaxed structures."""
        return (self.path, *(path for reader in self._relaxed.readers for path in reader.paths))

    def __len__(self) -> int:
        """Return the number of initial structures."""
        return len(self._initial)

    def frame(self, i: int) -> Frame:
        """Return initial structure ``i``.

        Raises:
            DataError: If there is no relaxed structure for it, or its atoms are others.
        """
        initial = self._initial.frame(i)
        position, where = self._start + i, f"Structure {self.name(i)!r}"
        if self._relaxed.by_sid is not None:
            sid = str(initial.info.get(self._sid_key))
            if sid not in self._relaxed.by_sid:
                raise DataError(f"{where} has the sid {sid!r}, and no relaxed structure has it")
            position = self._relaxed.by_sid[sid]
        return _relaxing_to(initial, self._relaxed.frame(position), self._keys, where)

    def name(self, i: int) -> str:
        """Return the name that the file gives."""
        return self._initial.name(i)


def with_relaxed(
    readers: Sequence[FrameReader],
    frames: Literal["all", "relaxation"],
    relaxed: Sequence[FrameReader],
    label_keys: Mapping[str, str] | None,
    sid_key: str,
) -> list[FrameReader]:
    """Give structures the labels of relaxed ones, if these are asked for.

    Args:
        readers: Files of the structures.
        frames: ``relaxation`` makes one structure of each file.
        relaxed: Files of the relaxed structures, if they have files of their own.
        label_keys: The user's.
        sid_key: Where structures have their sid.

    Raises:
        ConfigError: If both ways are asked for.
        DataError: If a file is no relaxation, or structures without a sid are not as many in both.
    """
    if frames not in ("all", "relaxation"):
        raise unknown_name("choice of frames", frames, ("all", "relaxation"))
    if frames == "relaxation" and relaxed:
        raise ConfigError(
            "Both frames: relaxation and a file of relaxed structures are given", expected="one"
        )
    if frames == "relaxation":
        return [RelaxationReader(reader, label_keys) for reader in readers]
    return list(_paired(readers, relaxed, label_keys, sid_key)) if relaxed else list(readers)


def keys_with_relaxed(label_keys: Mapping[str, str], initial: FrameReader) -> dict[str, str]:
    """Return which labels initial structures have once they got those of the relaxed ones.

    Args:
        label_keys: The user's, of both.
        initial: A file of initial structures, which may have no energies of their own.
    """
    own = set(label_sources(entries(initial.frame(0)), label_keys))
    kept = {name: key for name, key in label_keys.items() if name in own or name != "energy"}
    return {**kept, **_RELAXED_KEYS}


def refuse_mixture(readers: Sequence[FrameReader], label_keys: Mapping[str, str] | None) -> None:
    """Refuse LMDB files that have different labels: those of S2EF and IS2RE in one folder.

    Args:
        readers: Files of one source.
        label_keys: The user's; what these name must be there anyway.

    Raises:
        DataError: Naming two files.
    """
    known = [r for r in readers if r.path.suffix == ".lmdb"] if label_keys is None else []
    for reader in known[1:]:
        one, two = known[0].label_keys or {}, reader.label_keys or {}
        if set(one) != set(two):
            raise DataError(
                f"{str(known[0].path)!r} has the labels {', '.join(one) or '(none)'}, and "
                f"{str(reader.path)!r} beside it {', '.join(two) or '(none)'}",
                expected="files of one kind, S2EF or IS2RE",
                fix="Give each kind a source of its own.",
            )


def _paired(
    initial: Sequence[FrameReader],
    relaxed: Sequence[FrameReader],
    label_keys: Mapping[str, str] | None,
    sid_key: str,
) -> Iterator[PairReader]:
    found = RelaxedStructures.of(relaxed, sid_key)
    count = sum(map(len, initial))
    if found.by_sid is None and count != len(found.places):
        raise DataError(
            f"There are {count} initial and {len(found.places)} relaxed structures",
            expected="one relaxed structure for each, in the same order, or a sid on all",
        )
    start = 0
    for reader in initial:
        yield PairReader(reader, found, start, label_keys, sid_key)
        start += len(reader)


def _and_relaxed(label_keys: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if label_keys is None else {**label_keys, **_RELAXED_KEYS}


def _relaxing_to(
    initial: Frame, relaxed: Frame, label_keys: Mapping[str, str] | None, where: str
) -> Frame:
    if not np.array_equal(initial.numbers, relaxed.numbers):
        raise DataError(
            f"{where} has {len(initial.numbers)} atoms at first, and other atoms "
            f"({len(relaxed.numbers)}) when relaxed",
            expected="the same elements in the same order",
        )
    energy = raw_energy(entries(relaxed), label_keys, where)
    if energy is None:
        raise DataError(
            f"{where} has no energy in its relaxed structure",
            fix="Name its key with label_keys, e.g. energy: dft_energy.",
        )
    labels: dict[str, Any] = {"relaxed_energy": energy}
    positions = {"relaxed_pos": np.array(relaxed.positions)}
    return replace(initial, info=initial.info | labels, arrays=initial.arrays | positions)
