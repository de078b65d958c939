"""Seconds and memory of loading a potential: ``python -m benchmarks.loading``.

One process after the other, several times each. The first prediction belongs to loading, because
experts are merged and kernels are compiled or found by then.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from adatom.core.console import say
from adatom.core.errors import AdatomError, ConfigError
from benchmarks.checkpoints import FOLDER, checkpoint_of, structure_file
from benchmarks.jobs import Job
from benchmarks.modes import MODES, title_of
from benchmarks.records import RESULTS, circumstances, load_average, record
from benchmarks.structures import load_structure
from benchmarks.workers import ENVIRONMENTS, ROOT, Worker, start

#: A file that was merged for the structure before; not a mode of the other benchmarks.
MERGED_FILE = "merged-file"
COLUMNS = (
    "program",
    "malloc",
    "runs",
    "start s",
    "load s",
    "load peak GB",
    "loaded GB",
    "first call s",
    "GB after first call",
    "GB imports alone",
)
NOTE = (
    "Start: from the start of Python until the potential is loaded, with imports; load: without "
    "imports. GB are of resident memory, imports included; after the first call: experts merged "
    "where the mode does so, freed memory given back. Medians over runs, except for the first "
    "call, of which the largest is given: it may compile. Imports alone: a process that only "
    "imported what the program needs."
)


def merged_file(checkpoint: str, structure: Path) -> str:
    """Return a checkpoint merged for one composition, made on first use.

    Raises:
        ConfigError: If making it fails.
    """
    atoms = load_structure(structure)
    path = FOLDER / f"{Path(checkpoint).stem}-{structure.stem}.safetensors"
    if path.exists():
        return str(path)
    say(f"Making {path}")
    arguments = ["models", "convert", checkpoint, str(path), "--merge", str(structure)]
    done = subprocess.run(
        [sys.executable, "-m", "adatom", *arguments, "--task", atoms.info["task"]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ConfigError(f"Making {path} failed: {done.stderr.strip()[-400:]}")
    return str(path)


def measure(job: Job, malloc: str, runs: int) -> tuple[list[object], dict[str, str]]:
    """Load several times.

    Returns:
        A row of the table, and the versions that took part.
    """
    workers: list[Worker] = []
    for _ in range(runs):
        worker = start(job, ENVIRONMENTS[malloc])
        worker.close()
        workers.append(worker)
    reports = [worker.report for worker in workers]

    def median(name: str) -> float:
        return statistics.median(float(report[name]) for report in reports)

    merged = job.mode == "default" and job.checkpoint.endswith(".safetensors")
    row: list[object] = [
        "adatom default, merged file" if merged else title_of(job),
        malloc,
        runs,
        median("start_seconds"),
        median("load_seconds"),
        median("load_peak_gb"),
        median("resident_gb"),
        max(float(report["first_seconds"]) for report in reports),
        median("idle_gb"),
        median("imports_gb"),
    ]
    return row, reports[0]["versions"]


def job_of(name: str, checkpoint: str, structure: Path, threads: int) -> Job:
    """Return the job of a mode, or of a file merged for the structure."""
    if name == MERGED_FILE:
        merged = merged_file(checkpoint, structure)
        return Job("adatom", "default", "ase", merged, str(structure), threads)
    mode = MODES[name]
    return Job(mode.program, mode.settings, "ase", checkpoint, str(structure), threads)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.loading", description=__doc__)
    parser.add_argument("--structure", default="water3", help="what is predicted first")
    parser.add_argument("--checkpoint", default="uma-s", help="a shape, or an official .pt file")
    parser.add_argument(
        "--modes",
        nargs="+",
        choices=[*MODES, MERGED_FILE],
        default=["fairchem-batch", "fairchem-merged", "default", "turbo", MERGED_FILE],
    )
    parser.add_argument("--malloc", nargs="+", choices=ENVIRONMENTS, default=["untouched"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--record", type=Path, default=RESULTS, help="file to append to")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, print and record."""
    options = parse(arguments)
    load = load_average()
    checkpoint = str(checkpoint_of(options.checkpoint))
    structure = structure_file(options.structure)
    rows: list[list[object]] = []
    versions: dict[str, str] = {}
    for name in options.modes:
        job = job_of(name, checkpoint, structure, options.threads)
        for malloc in options.malloc:
            row, used = measure(job, malloc, options.runs)
            rows.append(row)
            versions |= used
    title = f"Loading, {options.checkpoint}, then one call on {options.structure}"
    facts = circumstances("benchmarks.loading", versions, load)
    record(title, facts, COLUMNS, rows, notes=[NOTE], path=options.record)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AdatomError as error:
        say(f"benchmarks.loading: {error}")
        raise SystemExit(2) from None
