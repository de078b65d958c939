"""Where the time of one prediction goes: ``python -m benchmarks.hotspots``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

import torch
from torch.profiler import ProfilerActivity, profile

from adatom.core.console import say
from adatom.core.errors import AdatomError
from adatom.core.precision import torch_threads
from adatom.inference.predict_unit import MLIPPredictUnit
from benchmarks.adatom_worker import PROPERTIES, count_edges
from benchmarks.checkpoints import checkpoint_of, structure_file
from benchmarks.records import circumstances, load_average, record
from benchmarks.structures import load_structure, moved

COLUMNS = ("operation", "calls", "own ms", "share %")


def operations(
    unit: MLIPPredictUnit, structure: str, call: str, top: int
) -> tuple[list[list[object]], float]:
    """Profile the second call.

    Returns:
        Rows of the table, and the milliseconds of all operations together.
    """
    atoms = load_structure(structure_file(structure))
    task = atoms.info["task"]
    unit.predict(atoms, PROPERTIES[call], task_name=task)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        unit.predict(moved(atoms, 1), PROPERTIES[call], task_name=task)
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    own = [(event, event.self_cpu_time_total) for event in events[:top]]
    rows: list[list[object]] = [
        [event.key, event.count, micro / 1e3, 100.0 * micro / total] for event, micro in own
    ]
    return rows, total / 1e3


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.hotspots", description=__doc__)
    parser.add_argument("--structure", default="cu108", help="name in shared/data/bench, or file")
    parser.add_argument("--checkpoint", default="uma-s", help="a shape, or a checkpoint")
    parser.add_argument("--call", choices=PROPERTIES, default="efs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--top", type=int, default=10)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Profile, print and record."""
    options = parse(arguments)
    load = load_average()
    with torch_threads(options.threads):
        unit = MLIPPredictUnit.load(checkpoint_of(options.checkpoint))
        rows, total = operations(unit, options.structure, options.call, options.top)
        edges = count_edges(unit.potential, load_structure(structure_file(options.structure)))
    versions = {"adatom": version("adatom"), "torch": torch.__version__}
    facts = circumstances("benchmarks.hotspots", versions, load)
    facts |= {"edges": str(edges), "all operations": f"{total:.0f} ms (profiler on)"}
    title = f"Where the time goes, {options.checkpoint}, {options.structure}, {options.call}"
    record(title, facts, COLUMNS, rows)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AdatomError as error:
        say(f"benchmarks.hotspots: {error}")
        raise SystemExit(2) from None
