"""One measurement of adatom."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from ase import Atoms

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.data.ase_convert import from_ase
from adatom.inference.predict_unit import MLIPPredictUnit
from benchmarks.jobs import Job, serve
from benchmarks.structures import load_structure, moved

#: What each kind of call computes.
PROPERTIES = {"ef": ("energy", "forces"), "efs": ("energy", "forces", "stress")}


def prepare(job: Job, unit: MLIPPredictUnit, atoms: Atoms) -> Callable[[int], dict[str, Any]]:
    """Return what one call does."""
    task = atoms.info["task"]

    def through_calculator(number: int) -> dict[str, Any]:
        calculator.calculate(moved(atoms, number))
        return values_of(calculator.results)

    def through_unit(number: int) -> dict[str, Any]:
        structure = moved(atoms, number)
        return values_of(unit.predict(structure, PROPERTIES[job.call], task_name=task))

    if job.call != "ase":
        return through_unit
    calculator = MLIPCalculator(unit, task_name=task)
    return through_calculator


def values_of(results: Any) -> dict[str, Any]:
    """Return energy and forces as plain numbers."""
    # Not through as_tensor, which would make a float32 tensor of a Python float.
    return {
        "energy": float(results["energy"]),
        "forces": torch.as_tensor(results["forces"]).tolist(),
    }


def count_edges(unit: MLIPPredictUnit, atoms: Atoms) -> int:
    """Return the number of directed edges within the potential's cutoff."""
    data = from_ase(atoms, label_keys={})
    potential = unit.potential
    edges = data.with_edges(potential.cutoff, max_neighbors=potential.max_neighbors).edges
    return 0 if edges is None else int(edges.index.shape[1])


def main() -> None:
    """Serve one job."""
    job = Job.from_json(sys.argv[1])
    torch.set_num_threads(job.threads)
    unit = MLIPPredictUnit.load(job.checkpoint)
    atoms = load_structure(job.structure)
    facts = {
        "versions": {"adatom": version("adatom"), "torch": torch.__version__},
        "atoms": len(atoms),
        "edges": count_edges(unit, atoms),
    }
    serve(job, prepare(job, unit, atoms), facts)


if __name__ == "__main__":
    main()
