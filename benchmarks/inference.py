"""Time and memory of predictions: ``python -m benchmarks.inference``.

Each measurement has a process of its own; the processes take turns, so that what disturbs the
machine disturbs all of them, and ratios are taken between calls of one round. Before anything is
timed, energies and forces of all programs are compared. mace-torch takes part where it is chosen;
it is another architecture, so its values are not compared.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adatom.core.console import say
from adatom.core.errors import AdatomError, NonFiniteError
from benchmarks.checkpoints import checkpoint_of, structure_file
from benchmarks.inference_table import COLUMNS, notes_of, rows_of
from benchmarks.jobs import Job
from benchmarks.modes import MODES, installed, modes_for
from benchmarks.records import RESULTS, circumstances, load_average, record
from benchmarks.workers import ENVIRONMENTS, Worker, launch, take_turns

#: eV and eV/angstrom; a larger deviation means that two different things would be timed.
TOLERANCE = 1e-4
CALLS = ("ef", "efs", "ase", "batch")


@dataclass
class Deviation:
    """Largest differences from the reference, in eV and eV/angstrom."""

    energy: float
    forces: float

    def __str__(self) -> str:
        """Return both numbers."""
        return f"{self.energy:.0e}, {self.forces:.0e}"


@dataclass
class Measured:
    """One measurement.

    Attributes:
        worker: Its process, which may have ended.
        malloc: Its environment.
        deviation: From the first measurement of the structure; None for that one, and where there
            is nothing to compare.
    """

    worker: Worker
    malloc: str
    deviation: Deviation | None = None


def compare(reference: dict[str, Any], other: dict[str, Any]) -> Deviation:
    """Return the deviation of one program's values from those of another."""
    energy = np.abs(np.subtract(reference["energy"], other["energy"])).max(initial=0.0)
    forces = np.abs(np.subtract(reference["forces"], other["forces"])).max(initial=0.0)
    return Deviation(float(energy), float(forces))


def check(deviation: Deviation, worker: Worker) -> None:
    """Refuse to time programs that compute different things.

    Raises:
        NonFiniteError: If energies or forces differ by more than ``TOLERANCE`` (or are NaN).
    """
    if not max(deviation.energy, deviation.forces) <= TOLERANCE:
        job = worker.job
        raise NonFiniteError(
            f"{job.program} ({job.mode}) and the others differ on {Path(job.structure).stem} by "
            f"{deviation.energy:.2g} eV and {deviation.forces:.2g} eV/angstrom",
            expected=f"at most {TOLERANCE}; nothing was timed",
        )


def measure(
    jobs: Sequence[Job], mallocs: Sequence[str], options: argparse.Namespace
) -> list[Measured]:
    """Measure all jobs of one structure and kind of call, in all given environments in turn.

    A job that fails is left out with one line; the others are measured.
    """
    all_of_them = [
        Measured(launch(job, ENVIRONMENTS[malloc]), malloc)
        for malloc in mallocs
        for job in jobs
        if job.program != "adatom"
    ]
    try:
        # The others take long to start, so they do it at the same time; adatom's load times are
        # then measured one after the other.
        alive = [one for one in all_of_them if _succeeds(one, one.worker.wait_until_loaded)]
        for malloc in mallocs:
            for job in (job for job in jobs if job.program == "adatom"):
                one = Measured(launch(job, ENVIRONMENTS[malloc]), malloc)
                all_of_them.append(one)
                if _succeeds(one, one.worker.wait_until_loaded):
                    alive.append(one)
        alive = _prepared(alive, together=options.together)
        _check_all(alive)
        if alive:
            take_turns([one.worker for one in alive], seconds=options.seconds, least=options.least)
    finally:
        for one in all_of_them:
            one.worker.close()
    order = {job: k for k, job in enumerate(jobs)}
    return sorted(alive, key=lambda one: (mallocs.index(one.malloc), order[one.worker.job]))


def _prepared(measured: Sequence[Measured], *, together: bool) -> list[Measured]:
    """Make the first calls, and return what is left.

    Args:
        measured: All of one structure.
        together: The other programs, which may compile for a minute, at the same time.
    """

    def prepare(one: Measured) -> bool:
        return _succeeds(one, one.worker.prepare)

    others = [one for one in measured if one.worker.job.program != "adatom"]
    own = [one for one in measured if one.worker.job.program == "adatom"]
    with ThreadPoolExecutor(max(1, len(others)) if together else 1) as pool:
        succeeded = list(pool.map(prepare, others))
    # adatom's first calls are among its aims, so nothing disturbs them.
    succeeded += [prepare(one) for one in own]
    return [one for one, good in zip([*others, *own], succeeded, strict=True) if good]


def _succeeds(one: Measured, step: Callable[[], None]) -> bool:
    try:
        step()
    except AdatomError as error:
        say(f"  left out ({one.malloc}): {error}")
        return False
    return True


def _check_all(measured: Sequence[Measured]) -> None:
    """Compare the values of all with those of the first."""
    same = [one for one in measured if one.worker.job.program != "mace"]
    for one in same[1:]:
        one.deviation = compare(same[0].worker.report["values"], one.worker.report["values"])
        check(one.deviation, one.worker)


def jobs_of(options: argparse.Namespace, call: str, checkpoint: str, structure: str) -> list[Job]:
    """Return what is measured on one structure by one kind of call."""
    modes = [MODES[name] for name in modes_for(call, options.modes)]
    return [
        Job(mode.program, mode.settings, call, checkpoint, structure, options.threads)
        for mode in modes
    ]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.inference", description=__doc__)
    parser.add_argument(
        "--structures",
        nargs="+",
        default=["water3", "aspirin21", "cu108"],
        help="names in shared/data/bench, cfcc4000 (made on first use), or files",
    )
    parser.add_argument("--checkpoint", default="uma-s", help="a shape, or an official .pt file")
    parser.add_argument("--calls", nargs="+", choices=CALLS, default=["ase"])
    parser.add_argument(
        "--modes",
        nargs="+",
        choices=MODES,
        help="what is compared; fairchem-default may compile for minutes",
    )
    parser.add_argument("--malloc", nargs="+", choices=ENVIRONMENTS, default=list(ENVIRONMENTS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="of calls per measurement")
    parser.add_argument("--least", type=int, default=2, help="timed calls at least")
    parser.add_argument(
        "--together",
        action="store_true",
        help="all environments in the same rounds, and fairchem's first calls at the same time: "
        "faster, but needs the memory of all processes at once (25 GB for cfcc500)",
    )
    parser.add_argument("--record", type=Path, default=RESULTS, help="file to append to")
    return parser.parse_args(arguments)


def _rounds(options: argparse.Namespace) -> list[list[str]]:
    """Return the environments that are measured in the same rounds."""
    return [options.malloc] if options.together else [[malloc] for malloc in options.malloc]


def main(arguments: Sequence[str]) -> None:
    """Measure, print and record."""
    options = parse(arguments)
    options.modes = installed(options.modes)
    load = load_average()
    checkpoint = str(checkpoint_of(options.checkpoint))
    rows: list[list[object]] = []
    versions: dict[str, str] = {}
    try:
        for name in options.structures:
            for call in options.calls:
                for mallocs in _rounds(options):
                    say(f"{name}, {call}, {' and '.join(mallocs)} malloc")
                    jobs = jobs_of(options, call, checkpoint, str(structure_file(name)))
                    measured = measure(jobs, mallocs, options)
                    rows += rows_of(measured)
                    for one in measured:
                        versions |= one.worker.report["versions"]
    finally:
        # What was measured before an error or interruption is kept.
        if rows:
            threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
            record(
                f"Inference, {options.checkpoint}, {threads}, float32",
                circumstances("benchmarks.inference", versions, load),
                COLUMNS,
                rows,
                notes=notes_of(options.modes or ()),
                path=options.record,
            )


if __name__ == "__main__":
    # So that "timeout" ends the workers and keeps what was measured.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        main(sys.argv[1:])
    except AdatomError as error:
        say(f"benchmarks.inference: {error}")
        raise SystemExit(2) from None
