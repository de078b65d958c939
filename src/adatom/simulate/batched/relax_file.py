"""From a sequence of structures to a file of relaxed ones; interrupted runs are continued."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adatom.calculators.unit_of import predict_unit_of
from adatom.core.console import progress
from adatom.core.files import require_writable
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData
from adatom.data.sinks import find_sink
from adatom.data.writers import write_structures
from adatom.simulate.batched.intake import Structure
from adatom.simulate.batched.journal import Frames, Journal, Outcome, digest_of_potential
from adatom.simulate.batched.relaxation import Model, RelaxationSettings, iterate_relaxations
from adatom.simulate.stopping import stop_on_signals


@dataclass(frozen=True, slots=True)
class FileOfRelaxations:
    """What became of the structures of a file.

    Attributes:
        outcomes: One per structure, in input order; those that are done if the run was stopped.
        continued: How many an earlier, interrupted run had finished.
        stopped_by: Signal that ended the run early, or None. The output is written by the run that
            finishes.
        journal: Where the finished structures are until then.
    """

    outcomes: list[Outcome]
    continued: int
    stopped_by: str | None
    journal: Path


def relax_to_file(
    structures: Sequence[Structure],
    output: str | os.PathLike[str],
    model: Model,
    *,
    task_name: str | None = None,
    settings: RelaxationSettings | None = None,
    info: Callable[[int], Mapping[str, Any]] | None = None,
    show_progress: bool = False,
) -> FileOfRelaxations:
    """Relax structures together and write them in input order.

    Every finished structure goes to a journal beside the output at once; when all are, the output
    is written, whole or not at all, and the journal is removed. A run that was interrupted, even
    killed, is continued by the same call. Ctrl-C and SIGTERM finish the step and return.

    In the output, ``converged`` and ``steps`` are in ``info``. A structure that failed is there as
    it was last, or as it came, with ``converged=False`` and the reason in ``error``; one that
    could not be read is left out.

    Args:
        structures: What to relax; read one by one.
        output: Ends as for :func:`adatom.data.writers.write_structures`; an existing file is
            replaced at the end.
        model: Name or path of a checkpoint, a potential, or a predict unit.
        task_name: The level of theory, needed only if the potential has several.
        settings: How to relax.
        info: From number to what else to write of a structure.
        show_progress: Show a progress bar on standard error.

    Raises:
        ConfigError: If the task has to be chosen, or a journal belongs to other input or settings.
        FileAccessError: If the output cannot be written.
        DataError: If its ending is not known, or no structure could be read.
        UnknownNameError: If there is no such task.
    """
    settings = RelaxationSettings() if settings is None else settings
    file = require_writable(output)
    find_sink(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    unit = predict_unit_of(model)
    task = unit.resolve_task(task_name)
    facts = _facts(settings, task, digest_of_potential(unit.potential))
    unreadable: list[Outcome] = []
    journal = Journal(file, facts)
    continued = len(journal.outcomes)
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        stack.enter_context(journal)
        bar = None
        if show_progress:
            bar = stack.enter_context(progress("Relax", len(structures)))
            bar.advance(continued)
        for record in iterate_relaxations(
            structures,
            unit,
            task_name=task,
            settings=settings,
            skip=journal.knows,
            stop=stop,
            bar=bar,
        ):
            if record.atoms is None:
                unreadable.append(Outcome.of(record))
            else:
                journal.add(record, structures[record.number])
    outcomes = sorted([*journal.outcomes.values(), *unreadable], key=lambda o: o.number)
    # All may have finished before a signal was looked at.
    stopped_by = stop.signal if len(outcomes) < len(structures) else None
    if stopped_by is None:
        with journal.structures() as frames:
            write_structures(
                file, _systems(frames, journal, task), info=_infos(frames, journal, info)
            )
        journal.remove()
    return FileOfRelaxations(outcomes, continued, stopped_by, journal.path)


def _systems(frames: Frames, journal: Journal, task: str) -> Iterator[AtomicData]:
    for number in frames.numbers:
        yield from_ase(frames[number], dataset=task, sid=journal.outcomes[number].sid)


def _infos(
    frames: Frames, journal: Journal, info: Callable[[int], Mapping[str, Any]] | None
) -> Iterator[Mapping[str, Any]]:
    for number in frames.numbers:
        outcome = journal.outcomes[number]
        known = dict(info(number)) if info is not None else {}
        known |= {"converged": outcome.converged, "steps": outcome.steps}
        yield known if outcome.error is None else known | {"error": outcome.error}


def _facts(settings: RelaxationSettings, task: str, potential: str) -> dict[str, Any]:
    """Return what must be the same when a run is continued, as plain JSON values."""
    cell = None if settings.cell is None else asdict(settings.cell)
    if cell is not None and cell["mask"] is not None:
        cell["mask"] = [bool(free) for free in cell["mask"]]
    each = {"fmax": settings.fmax, "steps": settings.steps}
    listed = {k: list(v) if isinstance(v, Sequence) else v for k, v in each.items()}
    return {
        "task": task,
        "potential": potential,
        "optimizer": settings.optimizer,
        "cell": cell,
        **listed,
    }
