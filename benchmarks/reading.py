"""Structures per second out of .aselmdb files: ``python -m benchmarks.reading``.

One process of each program at a time, in turns, on the same files.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adatom.core.console import say
from adatom.core.errors import AdatomError, ConfigError
from adatom.data.conversion import convert_dataset
from adatom.data.open_dataset import open_dataset
from benchmarks.checkpoints import FOLDER, shared_folder
from benchmarks.reading_worker import MARK
from benchmarks.records import RESULTS, circumstances, load_average, record
from benchmarks.workers import ROOT, interpreter

#: By name: a file of the shared folder and what tells its labels.
SETS: dict[str, tuple[str, dict[str, str] | None]] = {
    "OC20 slabs": ("data/oc20_relaxations/s2ef_train.aselmdb", None),
    "MPtrj crystals": ("data/mattersim_bench/mptrj-random-1k.xyz.xz", None),
    "QM7-X molecules": ("data/qm7x_250/qm7x_250_small.npz", None),
}
COLUMNS = (
    "set",
    "structures",
    "atoms each",
    "fairchem /s",
    "adatom first pass /s",
    "adatom later /s",
    "ratio first",
    "ratio later",
)
NOTE = (
    "Structures per second of processor time of one process with one thread, indexing the dataset "
    "in order: AseDBDataset of fairchem-core, StructureDataset of adatom, both to tensors with "
    "energy and forces, without neighbor lists. The fastest pass of each over all rounds, in which "
    "the two take turns: other work on the machine only ever adds time. "
    "adatom checks a structure (finite numbers, cell, overlapping atoms) the first time that it "
    "is read; fairchem-core does not check."
)


def file_of(name: str) -> Path:
    """Return the set as an .aselmdb file, made on first use."""
    source, keys = SETS[name]
    path = FOLDER / f"{name.replace(' ', '-')}.aselmdb"
    if not path.exists():
        systems = open_dataset(shared_folder() / source, label_keys=keys, lazy=True)
        done = convert_dataset(systems, path)
        say(f"{path}: {done.written} structures, {len(done.rejected)} rejected")
    return path


def measure(program: str, path: Path, passes: int) -> dict[str, Any]:
    """Run one process.

    Raises:
        ConfigError: If it fails.
    """
    folders = [str(ROOT), os.environ.get("PYTHONPATH", "")] if program == "adatom" else [str(ROOT)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [interpreter(program), "-m", "benchmarks.reading_worker", program, path, str(passes)],
        cwd=ROOT,
        env={**os.environ, **threads, "PYTHONPATH": ":".join(filter(None, folders))},
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            result: dict[str, Any] = json.loads(line.removeprefix(MARK))
            return result
    raise ConfigError(f"Reading with {program} failed: {done.stderr.strip()[-400:]}")


def compare(name: str, rounds: int, passes: int) -> tuple[list[object], dict[str, str]]:
    """Measure both programs on one set.

    Returns:
        A row of the table, and the versions that took part.
    """
    path = file_of(name)
    seconds: dict[str, list[float]] = {"fairchem": [], "first": [], "later": []}
    versions: dict[str, str] = {}
    count = 0
    for _ in range(rounds):
        for program in ("adatom", "fairchem"):
            found = measure(program, path, passes)
            count = found["count"]
            versions |= found["versions"]
            # The first pass also warms up: caches of files, modules, memory.
            initial, *others = found["seconds"]
            seconds["later" if program == "adatom" else "fairchem"] += others
            if program == "adatom":
                seconds["first"].append(initial)
    fairchem, first, later = (count / min(values) for values in seconds.values())
    atoms = statistics.mean(system.num_atoms for system in open_dataset(path))
    row = [name, count, float(atoms), fairchem, first, later, first / fairchem, later / fairchem]
    return row, versions


def main(arguments: Sequence[str]) -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser("python -m benchmarks.reading", description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=6, help="over the file, in each process")
    parser.add_argument("--record", type=Path, default=RESULTS, help="file to append to")
    options = parser.parse_args(arguments)
    if options.passes < 2 or options.rounds < 1:
        raise ConfigError("Too few passes or rounds", expected="at least 2 passes and 1 round")
    load = load_average()
    rows: list[list[object]] = []
    versions: dict[str, str] = {}
    for name in options.sets:
        row, used = compare(name, options.rounds, options.passes)
        rows.append(row)
        versions |= used
    facts = circumstances("benchmarks.reading", versions, load)
    record("Reading .aselmdb files", facts, COLUMNS, rows, notes=[NOTE], path=options.record)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AdatomError as error:
        say(f"benchmarks.reading: {error}")
        raise SystemExit(2) from None
