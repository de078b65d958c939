"""What is finished so far, on the disk: a killed run is continued where it was.

A journal is an ASE trajectory beside the output, with one frame for each finished structure, in
the order in which they finished.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ase import Atoms
from ase.io.trajectory import TrajectoryReader
from ase.io.ulm import InvalidULMFileError

from adatom.core.errors import ConfigError, DataError
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData
from adatom.simulate.batched.intake import Structure
from adatom.simulate.batched.relaxed import Relaxed
from adatom.simulate.trajectory import FrameWriter, writing
from adatom.tasks.potential import Potential

#: Where a frame keeps what is known of it.
_KEY = "adatom_relaxation"
#: What remains of ``atoms.info``: all else is read from the input again.
_KEPT = ("sid", "charge", "spin")
#: Numbers of a tensor that go into the fingerprint of a potential.
_SAMPLED = 4096


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one relaxation ended, without the structure.

    Attributes:
        number: Place of the structure in the input.
        sid: Its name.
        converged: Whether it converged.
        steps: Steps taken.
        before: Energy at the start in eV; None if it could not be computed.
        after: Energy at the end in eV.
        max_force: Largest force at the end in eV/angstrom.
        error: Why it failed, or None.
    """

    number: int
    sid: str
    converged: bool
    steps: int
    before: float | None
    after: float | None
    max_force: float | None
    error: str | None

    @classmethod
    def of(cls, record: Relaxed) -> Outcome:
        """Return that of a record."""
        before, after = (
            (record.energies[0], record.energies[-1]) if record.energies else (None,) * 2
        )
        force = None if record.error is not None else record.max_force
        return cls(
            record.number, record.sid, record.converged, record.steps,
            before, after, force, record.error,
        )  # fmt: skip


class Journal:
    """Keeps what is finished; use it in a ``with`` statement.

    Args:
        output: The file that will be made of it.
        settings: Of the run, as plain JSON values; a journal of others is refused.

    Attributes:
        path: Of the journal.
        outcomes: What was finished before and is now, by number.

    Raises:
        ConfigError: If there is a journal of other settings.
        DataError: If there is a file that is not a journal.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        self.path = output.with_name(f"{output.name}.unfinished.traj")
        self.outcomes: dict[int, Outcome] = {}
        self._settings = dict(settings)
        self._digests: dict[int, str] = {}
        self._frames: list[int] = []
        self._stack = ExitStack()
        self._writer: FrameWriter | None = None
        if self.path.exists():
            self._read()

    def __enter__(self) -> Self:
        """Return the journal; the file is created by the first frame."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file, which stays."""
        self._stack.close()
        self._writer = None

    def knows(self, number: int, given: Structure) -> bool:
        """Tell whether a structure is finished.

        Raises:
            ConfigError: If another structure was, in its place.
        """
        digest = self._digests.get(number)
        if digest is None:
            return False
        if digest != digest_of(given):
            raise ConfigError(
                f"Structure {number} of the input is not the one that {str(self.path)!r} has "
                "finished",
                fix="Give the same input to continue, or remove that file to begin anew.",
            )
        return True

    def add(self, record: Relaxed, given: Structure) -> None:
        """Write a structure that is finished."""
        if record.atoms is None:
            return
        if self._writer is None:
            append = bool(self._frames)
            self._writer = self._stack.enter_context(writing(self.path, append=append))
        outcome, digest = Outcome.of(record), digest_of(given)
        frame = record.atoms.copy()
        frame.calc = record.atoms.calc
        facts = {**asdict(outcome), "structure": digest, "settings": self._settings}
        kept = {key: frame.info[key] for key in _KEPT if key in frame.info}
        frame.info = kept | {_KEY: facts}
        self._writer.write(frame)
        self._frames.append(record.number)
        self.outcomes[record.number] = outcome

    def structures(self) -> Frames:
        """Return the finished structures in input order; the file has to be closed."""
        return Frames(self.path, self._frames)

    def remove(self) -> None:
        """Delete the file, which is closed."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        where = f"The file {str(self.path)!r}"
        try:
            with TrajectoryReader(str(self.path)) as reader:
                found = [reader[i].info[_KEY] for i in range(len(reader))]
        except (InvalidULMFileError, OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{where} cannot be read ({error})",
                expected="what an interrupted relaxation left",
                fix="Remove it to begin anew.",
            ) from error
        for facts in found:
            settings, digest = facts.pop("settings"), facts.pop("structure")
            for name, value in self._settings.items():
                if settings.get(name) != value:
                    raise ConfigError(
                        f"{where} is what a run with {name} {settings.get(name)} left; now it is "
                        f"{value}",
                        fix="Give the same command to continue, or remove that file.",
                    )
            outcome = Outcome(**facts)
            self.outcomes[outcome.number] = outcome
            self._digests[outcome.number] = digest
            self._frames.append(outcome.number)


class Frames:
    """The structures of a journal, by number.

    Args:
        path: Of the journal.
        numbers: Of the structures, by frame.
    """

    def __init__(self, path: Path, numbers: list[int]) -> None:
        self._places = {number: frame for frame, number in enumerate(numbers)}
        self._path = path
        self._reader: TrajectoryReader | None = None

    def __enter__(self) -> Self:
        """Open the file."""
        self._reader = TrajectoryReader(str(self._path)) if self._places else None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        if self._reader is not None:
            self._reader.close()

    @property
    def numbers(self) -> list[int]:
        """Those that are finished, in input order."""
        return sorted(self._places)

    def __getitem__(self, number: int) -> Atoms:
        """Return one structure with its results."""
        if self._reader is None:
            raise KeyError(number)
        atoms: Atoms = self._reader[self._places[number]]
        atoms.info.pop(_KEY, None)
        return atoms


def digest_of(given: Structure) -> str:
    """Return what tells a structure from others: elements, positions, cell, charge, ..."""
    system = given
    if not isinstance(system, AtomicData):
        system = from_ase(system, label_keys={})
    digest = hashlib.sha256()
    for name in ("atomic_numbers", "pos", "cell", "pbc", "charge", "spin", "fixed"):
        digest.update(getattr(system, name).detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def digest_of_potential(potential: Potential) -> str:
    """Return what tells a potential from others: names, shapes and a sample of its weights."""
    digest = hashlib.sha256(f"{type(potential.backbone).__name__} {potential.cutoff}".encode())
    for name, value in potential.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        flat = value.detach().flatten()
        sample = flat[:: max(1, len(flat) // _SAMPLED)]
        digest.update(sample.cpu().double().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
