"""Speed and memory of training: ``python -m benchmarks.training``.

One optimizer step (energy and force loss, second derivatives) of adatom and of fairchem-core's
model, with the same weights, and of a MACE of mace-torch, where it is installed, on a fixed batch
of real structures; then the steps of a real ``adatom s2ef fit`` against the same steps without the
trainer. Before anything is timed, the loss and the norm of the gradient of adatom and fairchem-core
are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from adatom.core.console import say
from adatom.core.errors import AdatomError, ConfigError, NonFiniteError
from benchmarks.checkpoints import checkpoint_of, shared_folder
from benchmarks.jobs import Job
from benchmarks.records import RESULTS, circumstances, load_average, record
from benchmarks.shapes import MACE_SHAPES, SHAPES
from benchmarks.workers import (
    ENVIRONMENTS,
    ROOT,
    Worker,
    environment,
    mace_python,
    start,
    take_turns,
)

#: Relative; the loss and its gradient contain second derivatives in float32.
TOLERANCE = 1e-3
COLUMNS = (
    "program",
    "parameters",
    "malloc",
    "systems",
    "atoms",
    "edges",
    "steps",
    "best ms",
    "median ms",
    "atoms/s",
    "edges/s",
    "ratio to adatom",
    "peak GB",
    "loss",
    "gradient norm",
)
NOTE = (
    "Peak GB: of the process during a step, imports included. The batch stays the same; adatom and "
    "mace-torch compute its neighbor list once, as their trainings do where the structures fit "
    "into memory, fairchem-core's model in each step."
)
MACE_NOTE = (
    "mace-torch {shape}: another architecture ({hidden_irreps}, {layers} layers, max_ell "
    "{max_ell}, correlation {correlation}, {elements} elements, cutoff {cutoff} angstrom) with "
    "random weights, in its standard mode, with the same loss and AdamW. Only speed and memory "
    "stand side by side, not what either learns in a step. Most of adatom's parameters are those "
    "of its experts, which it mixes before it computes."
)
FIT_COLUMNS = (
    "structures",
    "steps",
    "trainer step ms",
    "bare step ms",
    "overhead",
    "between steps ms",
    "of all time",
)
FIT_NOTE = (
    "Bare step: the same batch without the trainer, right after each step. Overhead: median over "
    "steps of the trainer's time over that. Between steps: from the end of one to the beginning of "
    "the next, mostly the wait for its batch (median); of all time: their sum."
)
#: How a training gets its batches, and the settings that make it so.
READING: dict[str, dict[str, Any]] = {
    "in memory": {"in_memory": True},
    "read for each batch": {"in_memory": False},
    "read by 1 worker": {"in_memory": False, "num_workers": 1},
}


def measure(malloc: str, options: argparse.Namespace) -> tuple[list[list[object]], dict[str, str]]:
    """Measure the step of each program in one environment.

    Returns:
        Rows of the table, and the versions that took part.
    """
    workers: list[Worker] = []
    try:
        for job in jobs(options):
            workers.append(start(job, ENVIRONMENTS[malloc], purpose="trainer"))
            if job.program != "mace":
                check(workers[0].report["values"], workers[-1].report["values"])
        take_turns(workers, seconds=options.seconds)
    finally:
        for worker in workers:
            worker.close()
    facts = workers[0].report
    rows = [_row(worker, facts, malloc, options.count) for worker in workers]
    return rows, {name: v for w in workers for name, v in w.report["versions"].items()}


def jobs(options: argparse.Namespace) -> list[Job]:
    """Return what to measure; adatom is the first."""
    checkpoint = str(checkpoint_of(options.checkpoint))
    chosen = [("adatom", "training", checkpoint)]
    if not options.no_fairchem:
        chosen.append(("fairchem", "training", checkpoint))
    if options.mace != "none":
        chosen.append(("mace", options.mace, ""))
    sizes = str(options.data), options.threads, options.count
    return [Job(program, mode, "step", path, *sizes) for program, mode, path in chosen]


def check(reference: dict[str, Any], other: dict[str, Any]) -> None:
    """Refuse to time programs that compute different things.

    Raises:
        NonFiniteError: If loss or gradient norm differ by more than ``TOLERANCE`` (or are NaN).
    """
    for name, expected in reference.items():
        if not abs(other[name] - expected) <= TOLERANCE * abs(expected):
            raise NonFiniteError(
                f"The {name} of fairchem is {other[name]:.6g}, that of adatom {expected:.6g}",
                expected=f"a relative difference of at most {TOLERANCE}; nothing was timed",
            )


def _row(worker: Worker, facts: dict[str, Any], malloc: str, count: int) -> list[object]:
    timings, values = worker.timings, worker.report["values"]
    facts = facts | worker.report
    return [
        worker.job.program,
        facts["parameters"],
        malloc,
        count,
        facts["atoms"],
        facts["edges"],
        len(timings.seconds),
        timings.best * 1e3,
        timings.median * 1e3,
        facts["atoms"] / timings.median,
        facts["edges"] / timings.median,
        timings.ratio,
        timings.peak_gb,
        f"{values['loss']:.6g}",
        f"{values['gradient_norm']:.6g}",
    ]


def fit_config(options: argparse.Namespace, times: Path, reading: str) -> dict[str, Any]:
    """Return the configuration of a short ``adatom s2ef fit`` with the same sizes."""
    shape = SHAPES.get(options.checkpoint, SHAPES["small"])
    return {
        "model": {"backbone": {"class_path": "eSCNMDBackbone", "init_args": dict(shape)}},
        "data": {
            "train": str(options.data),
            "batch_size": options.count,
            "val_fraction": 0.0,
            "check": False,
            **READING[reading],
        },
        "trainer": {
            "max_steps": options.fit_steps,
            "callbacks": [
                {
                    "class_path": "benchmarks.step_times.StepTimes",
                    "init_args": {"path": str(times)},
                }
            ],
        },
    }


def trainer_overhead(options: argparse.Namespace, reading: str) -> list[object]:
    """Run a short training and return the row about its steps.

    Args:
        options: Of the command line.
        reading: One of :data:`READING`.

    Raises:
        ConfigError: If the training fails.
    """
    say(f"  adatom s2ef fit, structures {reading}")
    job = Job("adatom", "fit", "step", "", str(options.data), options.threads)
    with tempfile.TemporaryDirectory() as folder:
        times, config = Path(folder) / "times.json", Path(folder) / "fit.yaml"
        config.write_text(yaml.safe_dump(fit_config(options, times, reading)), encoding="utf-8")
        command = ["-m", "adatom", "s2ef", "fit", "--config", str(config), "--run_dir", folder]
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = environment(job, {"PYTHONPATH": os.pathsep.join(paths)})
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not times.exists():
            raise ConfigError(f"adatom s2ef fit failed: {done.stderr.strip()[-400:]}")
        seconds = json.loads(times.read_text(encoding="utf-8"))
    return _fit_row(reading, seconds)


def _fit_row(reading: str, seconds: dict[str, list[float]]) -> list[object]:
    medians = {name: statistics.median(values) * 1e3 for name, values in seconds.items()}
    pairs = zip(seconds["trainer"], seconds["bare"], strict=True)
    overhead = statistics.median(whole / bare - 1 for whole, bare in pairs)
    return [
        reading,
        len(seconds["trainer"]),
        medians["trainer"],
        medians["bare"],
        f"{100 * overhead:.1f} %",
        medians["between"],
        f"{100 * sum(seconds['between']) / sum(seconds['trainer']):.2f} %",
    ]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.training", description=__doc__)
    parser.add_argument("--checkpoint", default="small", help="a shape, or an official .pt file")
    parser.add_argument(
        "--data",
        type=Path,
        default=shared_folder() / "data" / "zuo2020" / "Si_train.extxyz.xz",
        help="labeled structures",
    )
    parser.add_argument("--count", type=int, default=4, help="structures in a batch")
    parser.add_argument("--no-fairchem", action="store_true", help="measure adatom alone")
    parser.add_argument(
        "--mace",
        choices=[*MACE_SHAPES, "none"],
        default=None,
        help="a MACE; where mace-torch is installed, that of the shape's name",
    )
    parser.add_argument("--malloc", nargs="+", choices=ENVIRONMENTS, default=list(ENVIRONMENTS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="of steps per measurement")
    parser.add_argument(
        "--fit-steps", type=int, default=40, help="of adatom s2ef fit; 0 leaves it out"
    )
    parser.add_argument("--record", type=Path, default=RESULTS, help="file to append to")
    options = parser.parse_args(arguments)
    if options.mace is None:
        fits = options.checkpoint in MACE_SHAPES and mace_python() is not None
        options.mace = options.checkpoint if fits else "none"
    return options


def main(arguments: Sequence[str]) -> None:
    """Measure, print and record."""
    options = parse(arguments)
    load = load_average()
    rows: list[list[object]] = []
    versions: dict[str, str] = {}
    for malloc in options.malloc:
        say(f"{options.count} structures of {options.data.name}, {malloc} malloc")
        found, used = measure(malloc, options)
        rows += found
        versions |= used
    facts = circumstances("benchmarks.training", versions, load)
    threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
    title = f"Training step, {options.checkpoint}, {threads}, float32"
    notes = [NOTE]
    if options.mace != "none":
        notes.append(MACE_NOTE.format(shape=options.mace, **MACE_SHAPES[options.mace]))
    record(title, facts, COLUMNS, rows, notes=notes, path=options.record)
    if options.fit_steps:
        load = load_average()
        fits = [trainer_overhead(options, reading) for reading in READING]
        facts = circumstances("benchmarks.training", versions, load)
        title = f"Trainer overhead, {options.checkpoint}, {threads}"
        record(title, facts, FIT_COLUMNS, fits, notes=[FIT_NOTE], path=options.record)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AdatomError as error:
        say(f"benchmarks.training: {error}")
        raise SystemExit(2) from None
