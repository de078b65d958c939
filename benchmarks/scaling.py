"""One system over several workers: ``python -m benchmarks.scaling``.

Measured: time, processor time and memory of a step with one and with two workers of one thread
each, and the bytes that they exchange. From these counts follows a model for many GPUs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from adatom.core.console import say
from adatom.core.errors import AdatomError, ConfigError
from benchmarks.checkpoints import checkpoint_of, structure_file
from benchmarks.records import RESULTS, circumstances, load_average, record
from benchmarks.scaling_model import Traffic, expected_rows
from benchmarks.shapes import SHAPES
from benchmarks.workers import ROOT

#: Settings by mode.
MODES: dict[str, dict[str, Any]] = {
    "compiled": {},
    "lean": {"activation_checkpointing": True},
    "tiled": {"compile": False},
}
COLUMNS = (
    "structure",
    "atoms",
    "workers",
    "mode",
    "steps",
    "best s per step",
    "processor s per worker and step",
    "own atoms",
    "halo atoms",
    "edges of a worker",
    "loaded GB",
    "peak beyond GB",
    "MB sent by a worker per step",
    "operations per step",
)
EXPECTED = (
    "GPUs",
    "atoms per GPU",
    "halo atoms",
    "MB of features per GPU and step",
    "ms of communication",
    "expected efficiency %",
    "published, all-to-all %",
    "published, all-gather %",
)
NOTE = (
    "Steps have new positions within the Verlet skin. Of several workers the largest number is "
    "given. Processor time says how the work is divided when the machine is busy with other "
    "things; waiting for the other worker is hardly in it. Loaded: after a call on four atoms. "
    "Peak beyond: of all steps, over that. The workers of one machine may keep up to 0.27 GB "
    "of it together for the backward pass, except in mode lean."
)
MODEL = (
    "This is a model; nothing was run on a GPU. Counted: halo atoms of fcc carbon (a = 3.8 "
    "angstrom) with the cutoff and skin, bytes of features there and back, operations of the run "
    "above. Assumed: own work of a step as fairchem's published one at the smallest number of GPUs "
    "(so that this row has 100 % by definition), 200 GB/s within a node of 8, 40 GB/s between "
    "nodes, 100 microseconds per exchange, 15 per sum and doubling. Not in it: neighbor "
    "searches, work on all atoms by each worker (about 0.1 microseconds per atom and step on a "
    "processor), and how positions reach the workers."
)


def run(job: dict[str, Any], workers: int) -> list[dict[str, Any]]:
    """Run the workers and return what each one measured.

    Raises:
        ConfigError: If one of them fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for rank in range(workers):
            own = {**job, "rank": rank, "workers": workers, "store": str(Path(folder, "store"))}
            own["result"] = str(Path(folder, f"{rank}.json"))
            command = [sys.executable, "-m", "benchmarks.scaling_worker", json.dumps(own)]
            started.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True))
        try:
            outputs = [process.communicate()[1] for process in started]
        finally:
            for process in started:
                process.kill()
        for process, errors in zip(started, outputs, strict=True):
            if process.returncode:
                raise ConfigError(f"A worker failed: {errors.strip()[-600:]}")
        return [json.loads(Path(folder, f"{k}.json").read_text()) for k in range(workers)]


def measured_row(name: str, found: list[dict[str, Any]]) -> list[object]:
    """Return the row of one number of workers."""
    statistics = [worker["statistics"] for worker in found]

    def most(key: str) -> Any:
        return max(each[key] for each in statistics)

    return [
        name,
        found[0]["atoms"],
        len(found),
        statistics[0]["mode"],
        len(found[0]["wall"]),
        min(found[0]["wall"]),
        max(min(worker["cpu"]) for worker in found),
        most("own_atoms"),
        most("halo_atoms"),
        most("edges"),
        max(worker["loaded"] for worker in found),
        max(worker["peak"] for worker in found),
        most("sent_bytes") / 1e6,
        most("exchanges"),
    ]


def traffic_of(shape: str, operations: int) -> Traffic:
    """Return the traffic of a network, with the operations that were counted."""
    sizes = SHAPES[shape]
    layers = sizes["num_layers"]
    row = 4 * sizes["sphere_channels"] * (sizes["lmax"] + 1) ** 2
    exchanges = 2 * layers + 4
    return Traffic(row, layers, exchanges, max(operations - exchanges, 0))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--structures", nargs="+", default=["cu108", "cfcc500"])
    parser.add_argument("--repeat", type=int, nargs=3, default=[1, 1, 1])
    parser.add_argument("--checkpoint", default="uma-s", help="a shape, or a checkpoint")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--modes", nargs="+", default=["compiled", "lean"], choices=MODES)
    parser.add_argument("--no-model", action="store_true", help="leave out the model of many GPUs")
    parser.add_argument("--record", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, print and record."""
    options = parse(arguments)
    load, rows, operations = load_average(), [], 0
    for name in options.structures:
        for mode in options.modes:
            energies = []
            for workers in options.workers:
                job = {
                    "checkpoint": str(checkpoint_of(options.checkpoint)),
                    "structure": str(structure_file(name)),
                    "repeat": options.repeat,
                    "settings": MODES[mode],
                    "steps": options.steps,
                }
                found = run(job, workers)
                rows.append(measured_row(name, found))
                rows[-1][3] = mode
                energies.append(found[0]["energy"])
                operations = found[0]["statistics"]["exchanges"]
                say(f"{name}, {workers} workers: {rows[-1]}, energy {energies[-1]:.6f} eV")
    versions = {"adatom": version("adatom"), "torch": torch.__version__}
    facts = circumstances("benchmarks.scaling", versions, load)
    title = f"One system over several workers, {options.checkpoint}, 1 thread each, float32"
    record(title, facts, COLUMNS, rows, notes=[NOTE], path=options.record)
    if not options.no_model:
        traffic = traffic_of(options.checkpoint, operations)
        reach = SHAPES[options.checkpoint]["cutoff"] + 0.5
        table = expected_rows(traffic, reach)
        title = f"Expected weak scaling on GPUs (a model), {options.checkpoint}"
        record(title, facts, EXPECTED, table, notes=[MODEL], path=options.record)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AdatomError as error:
        say(f"benchmarks.scaling: {error}")
        raise SystemExit(2) from None
