"""Time and memory of predictions: ``python -m benchmarks.inference``.

Each measurement has a process of its own; the processes take turns, so that what disturbs the
machine disturbs all of them, and ratios are taken between calls of one round. Before anything is
timed, energies and forces of adatom and fairchem-core are compared. mace-torch takes part where it
is installed; it is another architecture, so its values are not compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adatom.core.console import say
from adatom.core.errors import AdatomError, NonFiniteError
from benchmarks.checkpoints import checkpoint_of, shared_folder
from benchmarks.jobs import Job
from benchmarks.records import circumstances, load_average, record
from benchmarks.shapes import MACE_SHAPES
from benchmarks.workers import ENVIRONMENTS, Worker, mace_python, start, take_turns

#: eV and eV/angstrom; a larger deviation means that two different things would be timed.
TOLERANCE = 1e-4
CALLS = {
    "ef": "predict unit, E+F",
    "efs": "predict unit, E+F+stress",
    "ase": "ASE calculator, E+F+stress",
}
COLUMNS = (
    "structure",
    "atoms",
    "edges",
    "call",
    "program",
    "malloc",
    "calls",
    "best ms",
    "median ms",
    "ratio to adatom",
    "peak GB",
    "loading GB",
    "first call s",
    "max dE, dF",
)

NOTE = (
    "Ratio: median over rounds of this program's time over adatom's for the same kind of call in "
    "the same round (above 1: adatom is faster). Peak GB: of the process during calls, "
    "imports and potential included; loading GB: its peak before them. "
    "max dE, dF: largest difference from the first row of the structure, eV and eV/angstrom."
)

MACE_NOTE = (
    "mace-torch {shape}: another architecture ({hidden_irreps}, {layers} layers, max_ell "
    "{max_ell}, correlation {correlation}, cutoff {cutoff} angstrom) with random weights, through "
    "its ASE calculator in its standard mode. Its size is not matched to adatom's: only speed and "
    "memory stand side by side, and its values mean nothing."
)


@dataclass
class Deviation:
    """Largest differences from the reference, in eV and eV/angstrom."""

    energy: float
    forces: float

    def __str__(self) -> str:
        """Return both numbers."""
        return f"{self.energy:.0e}, {self.forces:.0e}"


def compare(reference: dict[str, Any], other: dict[str, Any]) -> Deviation:
    """Return the deviation of one program's values from those of another."""
    forces = np.subtract(reference["forces"], other["forces"])
    return Deviation(
        abs(reference["energy"] - other["energy"]), float(np.abs(forces).max(initial=0.0))
    )


def check(deviation: Deviation, worker: Worker) -> None:
    """Refuse to time programs that compute different things.

    Raises:
        NonFiniteError: If energies or forces differ by more than ``TOLERANCE`` (or are NaN).
    """
    if not max(deviation.energy, deviation.forces) <= TOLERANCE:
        job = worker.job
        raise NonFiniteError(
            f"{job.program} ({job.mode}) and adatom differ on {Path(job.structure).stem} by "
            f"{deviation.energy:.2g} eV and {deviation.forces:.2g} eV/angstrom",
            expected=f"at most {TOLERANCE}; nothing was timed",
        )


def measure(
    structure: Path, checkpoint: Path, malloc: str, options: argparse.Namespace
) -> tuple[list[list[object]], dict[str, str]]:
    """Measure all programs on one structure in one environment.

    Returns:
        Rows of the table, and the versions that took part.
    """
    jobs = jobs_of(options, str(checkpoint), str(structure))
    references: dict[str, Worker] = {}
    group: list[Worker] = []
    finished: list[tuple[Worker, Deviation | None]] = []
    variables = ENVIRONMENTS[malloc]
    try:
        for job in (job for job in jobs if job.program == "adatom"):
            references[job.call] = start(job, variables)
        first = next(iter(references.values()))
        finished += [(worker, _checked(first, worker)) for worker in references.values()]
        waiting = [job for job in jobs if job.program != "adatom"]
        while waiting or not first.timings.seconds:
            while waiting and _memory([*references.values(), *group]) < options.memory:
                worker = start(waiting.pop(0), variables)
                group.append(worker)
                finished.append((worker, _checked(first, worker)))
            take_turns([*references.values(), *group], seconds=options.seconds)
            while group:
                group.pop().close()
    finally:
        for worker in [*references.values(), *group]:
            worker.close()
    versions = {name: v for w, _ in finished for name, v in w.report["versions"].items()}
    order = {job: k for k, job in enumerate(jobs)}
    finished.sort(key=lambda pair: order[pair[0].job])
    return [_row(worker, deviation, first, malloc) for worker, deviation in finished], versions


def jobs_of(options: argparse.Namespace, checkpoint: str, structure: str) -> list[Job]:
    """Return what is measured on one structure; mace-torch only has the ASE calculator."""
    jobs = []
    for call in options.calls:
        programs = [("adatom", "plain"), *(("fairchem", mode) for mode in options.fairchem)]
        if call == "ase":
            programs += [("mace", shape) for shape in options.mace]
        jobs += [
            Job(program, mode, call, checkpoint, structure, options.threads)
            for program, mode in programs
        ]
    return jobs


def _checked(reference: Worker, worker: Worker) -> Deviation | None:
    if worker.job.program == "mace":
        return None
    deviation = compare(reference.report["values"], worker.report["values"])
    check(deviation, worker)
    return deviation


def _memory(workers: Sequence[Worker]) -> float:
    return sum(worker.resident_gb for worker in workers)


def name_of(job: Job) -> str:
    """Return how a table calls the program of a job."""
    names = {"fairchem": f"fairchem {job.mode}", "mace": f"mace-torch {job.mode} (other model)"}
    return names.get(job.program, job.program)


def _deviation_cell(worker: Worker, deviation: Deviation | None, first: Worker) -> str:
    if deviation is None:
        return "not comparable"
    return "" if worker is first else str(deviation)


def _row(worker: Worker, deviation: Deviation | None, first: Worker, malloc: str) -> list[object]:
    job, timings = worker.job, worker.timings
    return [
        Path(job.structure).stem,
        first.report["atoms"],
        worker.report.get("edges", first.report["edges"]),
        CALLS[job.call],
        name_of(job),
        malloc,
        len(timings.seconds),
        timings.best * 1e3,
        timings.median * 1e3,
        timings.ratio,
        timings.peak_gb,
        float(worker.report["load_peak_gb"]),
        float(worker.report["first_seconds"]),
        _deviation_cell(worker, deviation, first),
    ]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.inference", description=__doc__)
    parser.add_argument(
        "--structures",
        nargs="+",
        default=["water3", "aspirin21", "cu108"],
        help="names in shared/data/bench, or files",
    )
    parser.add_argument("--checkpoint", default="uma-s", help="a shape, or an official .pt file")
    parser.add_argument("--calls", nargs="+", choices=CALLS, default=["ef", "ase"])
    parser.add_argument(
        "--fairchem",
        nargs="+",
        default=["batch", "merged", "default"],
        choices=["none", "batch", "merged", "default"],
        help="modes; default (merged and compiled) may compile for minutes",
    )
    parser.add_argument(
        "--mace",
        nargs="+",
        default=list(MACE_SHAPES),
        choices=["none", *MACE_SHAPES],
        help="shapes of mace-torch's model, with random weights; left out where not installed",
    )
    parser.add_argument("--malloc", nargs="+", choices=ENVIRONMENTS, default=list(ENVIRONMENTS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="of calls per measurement")
    parser.add_argument(
        "--memory",
        type=float,
        default=8.0,
        help="GB of all processes together, beyond which no further one starts",
    )
    options = parser.parse_args(arguments)
    options.fairchem = [mode for mode in options.fairchem if mode != "none"]
    options.mace = [shape for shape in options.mace if shape != "none"]
    return options


def installed_mace(shapes: list[str]) -> list[str]:
    """Return the shapes; none, with one line that says so, where mace-torch is not installed."""
    if shapes and mace_python() is None:
        say("mace-torch is left out: not installed (benchmarks/setup_mace.sh)")
        return []
    return shapes


def notes_of(options: argparse.Namespace) -> list[str]:
    """Return the sentences below the table."""
    shapes = options.mace if "ase" in options.calls else []
    return [NOTE, *(MACE_NOTE.format(shape=shape, **MACE_SHAPES[shape]) for shape in shapes)]


def structure_file(name: str) -> Path:
    """Return the file of a structure in the shared folder, or the given file."""
    path = Path(name)
    return path if path.exists() else shared_folder() / "data" / "bench" / f"{name}.extxyz"


def main(arguments: Sequence[str]) -> None:
    """Measure, print and record."""
    options = parse(arguments)
    options.mace = installed_mace(options.mace)
    load = load_average()
    checkpoint = checkpoint_of(options.checkpoint)
    rows: list[list[object]] = []
    versions: dict[str, str] = {}
    try:
        for name in options.structures:
            for malloc in options.malloc:
                say(f"{name}, {malloc} malloc")
                found, used = measure(structure_file(name), checkpoint, malloc, options)
                rows += found
                versions |= used
    finally:
        # What was measured before an error or interruption is kept.
        if rows:
            threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
            record(
                f"Inference, {options.checkpoint}, {threads}, float32",
                circumstances("benchmarks.inference", versions, load),
                COLUMNS,
                rows,
                notes=notes_of(options),
            )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AdatomError as error:
        say(f"benchmarks.inference: {error}")
        raise SystemExit(2) from None
