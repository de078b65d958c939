"""How exact the fast paths are: ``python -m benchmarks.accuracy``.

Energies and forces of presets against plain autograd in float64, of the same checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adatom.core.console import say
from adatom.core.errors import AdatomError
from adatom.core.precision import torch_threads
from adatom.inference.predict_unit import MLIPPredictUnit
from benchmarks.adatom_worker import SETTINGS, count_edges
from benchmarks.checkpoints import checkpoint_of, structure_file
from benchmarks.records import RESULTS, circumstances, load_average, record
from benchmarks.structures import load_structure

COLUMNS = (
    "structure",
    "atoms",
    "edges",
    "program",
    "reference",
    "energy eV/atom",
    "dE/atom eV",
    "max F eV/A",
    "max dF eV/A",
)
NOTE = (
    "Reference: float64 of the same weights by plain autograd; above the given number of edges, "
    "where that does not fit into memory, by the tiled path in float64, which the tests hold to "
    "1e-10 of plain autograd. Positions are those of the file."
)
#: The references, by mode of execution.
REFERENCES = {
    "general": {"compile": False, "execution_mode": "general", "base_precision_dtype": "float64"},
    "tiled": {"compile": False, "execution_mode": "tiled", "base_precision_dtype": "float64"},
}


def predict(checkpoint: Path, settings: Any, structure: str) -> tuple[float, np.ndarray, str]:
    """Return energy per atom, forces ``[N, 3]``, and the mode of execution that was used."""
    unit = MLIPPredictUnit.load(checkpoint, settings)
    atoms = load_structure(structure_file(structure))
    found = unit.predict(atoms, ("energy", "forces"), task_name=atoms.info["task"])
    execution = next(line for line in unit.explain().splitlines() if line.startswith("Execution"))
    forces = found["forces"].double().numpy()
    return float(found["energy"].double()) / len(atoms), forces, execution.split("'")[1]


def rows_of(
    checkpoint: Path, structure: str, modes: Sequence[str], plain_edges: int
) -> list[list[object]]:
    """Return one row per mode."""
    atoms = load_structure(structure_file(structure))
    potential = MLIPPredictUnit.load(checkpoint).potential
    edges = count_edges(potential, atoms)
    reference = "general" if edges <= plain_edges else "tiled"
    energy, forces, _ = predict(checkpoint, REFERENCES[reference], structure)
    rows: list[list[object]] = []
    for mode in modes:
        own_energy, own_forces, execution = predict(checkpoint, SETTINGS.get(mode, mode), structure)
        rows.append(
            [
                structure,
                len(atoms),
                edges,
                f"{mode} ({execution})",
                f"float64, {reference}",
                f"{energy:.6f}",
                f"{abs(own_energy - energy):.1e}",
                f"{np.abs(forces).max():.2e}",
                f"{np.abs(own_forces - forces).max():.1e}",
            ]
        )
    return rows


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument(
        "--structures", nargs="+", default=["water3", "aspirin21", "cu108", "h2o64", "cfcc500"]
    )
    parser.add_argument("--checkpoint", default="uma-s", help="a shape, or a checkpoint")
    parser.add_argument("--modes", nargs="+", default=["default", "turbo", "tiled"])
    parser.add_argument(
        "--plain-edges", type=int, default=20000, help="edges up to which the reference is plain"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--record", type=Path, default=RESULTS, help="file to append to")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, print and record."""
    options = parse(arguments)
    load = load_average()
    checkpoint = checkpoint_of(options.checkpoint)
    rows: list[list[object]] = []
    with torch_threads(options.threads):
        for structure in options.structures:
            say(structure)
            rows += rows_of(checkpoint, structure, options.modes, options.plain_edges)
    versions = {"adatom": version("adatom"), "torch": torch.__version__}
    facts = circumstances("benchmarks.accuracy", versions, load)
    title = f"Accuracy, {options.checkpoint}, against float64"
    record(title, facts, COLUMNS, rows, notes=[NOTE], path=options.record)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AdatomError as error:
        say(f"benchmarks.accuracy: {error}")
        raise SystemExit(2) from None
