"""Speed and memory of training: ``python -m benchmarks.training``.

One optimizer step (energy and force loss, second derivatives) of adatom and of fairchem-core's
model, with the same weights, on a fixed batch of real structures; then the steps of a real
``adatom s2ef fit`` against the same steps without the trainer. Before anything is timed, the
loss and the norm of the gradient of both programs are compared.
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
from benchmarks.records import circumstances, load_average, record
from benchmarks.shapes import SHAPES
from benchmarks.workers import ENVIRONMENTS, ROOT, Worker, environment, start, take_turns

#: Relative; the loss and its gradient contain second derivatives in float32.
TOLERANCE = 1e-3
COLUMNS = (
    "program",
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


def measure(malloc: str, options: argparse.Namespace) -> tuple[list[list[object]], dict[str, str]]:
    """Measure the step of each program in one environment.

    Returns:
        Rows of the table, and the versions that took part.
    """
    checkpoint = str(checkpoint_of(options.checkpoint))
    programs = ["adatom", *([] if options.no_fairchem else ["fairchem"])]
    workers: list[Worker] = []
    try:
        for program in programs:
            job = Job(
                program,
                "training",
                "step",
                checkpoint,
                str(options.data),
                options.threads,
                options.count,
            )
            workers.append(start(job, ENVIRONMENTS[malloc], purpose="trainer"))
            check(workers[0].report["values"], workers[-1].report["values"])
        take_turns(workers, seconds=options.seconds)
    finally:
        for worker in workers:
            worker.close()
    facts = workers[0].report
    rows = [_row(worker, facts, malloc, options.count) for worker in workers]
    return rows, {name: v for w in workers for name, v in w.report["versions"].items()}


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
    return [
        worker.job.program,
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


def fit_config(options: argparse.Namespace, times: Path) -> dict[str, Any]:
    """Return the configuration of a short ``adatom s2ef fit`` with the same sizes."""
    shape = SHAPES.get(options.checkpoint, SHAPES["small"])
    return {
        "model": {"backbone": {"class_path": "eSCNMDBackbone", "init_args": dict(shape)}},
        "data": {
            "train": str(options.data),
            "batch_size": options.count,
            "val_fraction": 0.0,
            "check": False,
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


def trainer_overhead(options: argparse.Namespace) -> list[object]:
    """Run a short training and return the row about its steps.

    Raises:
        ConfigError: If the training fails.
    """
    say("  adatom s2ef fit")
    job = Job("adatom", "fit", "step", "", str(options.data), options.threads)
    with tempfile.TemporaryDirectory() as folder:
        times, config = Path(folder) / "times.json", Path(folder) / "fit.yaml"
        config.write_text(yaml.safe_dump(fit_config(options, times)), encoding="utf-8")
        command = ["-m", "adatom", "s2ef", "fit", "--config", str(config), "--run_dir", folder]
        variables = environment(job, {"PYTHONPATH": os.pathsep.join([str(ROOT)])})
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
    whole, bare = (statistics.median(seconds[name]) for name in ("trainer", "bare"))
    return [len(seconds["trainer"]), whole * 1e3, bare * 1e3, f"{100 * (whole / bare - 1):.1f} %"]


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
    parser.add_argument("--malloc", nargs="+", choices=ENVIRONMENTS, default=list(ENVIRONMENTS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="of steps per measurement")
    parser.add_argument(
        "--fit-steps", type=int, default=40, help="of adatom s2ef fit; 0 leaves it out"
    )
    return parser.parse_args(arguments)


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
    record(title, facts, COLUMNS, rows)
    if options.fit_steps:
        columns = ("steps", "trainer step ms", "bare step ms", "overhead")
        row = trainer_overhead(options)
        facts = circumstances("benchmarks.training", versions, load)
        record(f"Trainer overhead, {options.checkpoint}, {threads}", facts, columns, [row])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AdatomError as error:
        say(f"benchmarks.training: {error}")
        raise SystemExit(2) from None
