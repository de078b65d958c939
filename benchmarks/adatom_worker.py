"""One measurement of adatom."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import torch
from ase import Atoms

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.data.ase_convert import from_ase
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.nn.buffer_pool import release_idle
from adatom.tasks.potential import Potential
from benchmarks.jobs import Job, serve
from benchmarks.structures import load_all, load_structure, moved

#: What each kind of call computes.
PROPERTIES = {
    "ef": ("energy", "forces"),
    "efs": ("energy", "forces", "stress"),
    "batch": ("energy", "forces"),
}
#: Modes that are not presets, and their settings.
SETTINGS: dict[str, dict[str, Any]] = {
    # What a machine without a compiler gets.
    "tiled": {"compile": False, "execution_mode": "tiled"},
    "general": {"compile": False, "execution_mode": "general"},
    # One structure after the other.
    "loop": {"preset": "default"},
}


def load_unit(job: Job) -> MLIPPredictUnit:
    """Load the potential with the settings of a mode."""
    return MLIPPredictUnit.load(job.checkpoint, SETTINGS.get(job.mode, job.mode))


def prepare(job: Job, unit: MLIPPredictUnit) -> Callable[[int], dict[str, Any]]:
    """Return what one call does."""
    if job.call == "batch":
        return _of_all(unit, load_all(job.structure), loop=job.mode == "loop")
    atoms = load_structure(job.structure)
    task = atoms.info["task"]

    def through_calculator(number: int) -> dict[str, Any]:
        calculator.calculate(moved(atoms, number))
        return values_of([calculator.results])

    def through_unit(number: int) -> dict[str, Any]:
        structure = moved(atoms, number)
        return values_of([unit.predict(structure, PROPERTIES[job.call], task_name=task)])

    if job.call != "ase":
        return through_unit
    calculator = MLIPCalculator(unit, task_name=task)
    return through_calculator


def _of_all(
    unit: MLIPPredictUnit, structures: Sequence[Atoms], *, loop: bool
) -> Callable[[int], dict[str, Any]]:
    """Return a call that predicts all structures, together or one after the other."""
    names = PROPERTIES["batch"]

    def together(number: int) -> dict[str, Any]:
        systems = [_converted(atoms, number) for atoms in structures]
        return values_of([unit.predict(systems, names)])

    def one_by_one(number: int) -> dict[str, Any]:
        return values_of([unit.predict(_converted(atoms, number), names) for atoms in structures])

    return one_by_one if loop else together


def _converted(atoms: Atoms, number: int) -> Any:
    return from_ase(moved(atoms, number), dataset=atoms.info["task"], label_keys={})


def values_of(results: Sequence[Any]) -> dict[str, Any]:
    """Return energies and forces as plain numbers."""
    energies: list[float] = []
    forces: list[list[float]] = []
    for result in results:
        energy = result["energy"]
        # A Python float stays one: as_tensor would make float32 of it.
        energies += energy.tolist() if isinstance(energy, torch.Tensor) else [float(energy)]
        forces += torch.as_tensor(result["forces"]).tolist()
    return {"energy": energies, "forces": forces}


def size(job: Job, potential: Potential) -> dict[str, int]:
    """Return how many atoms and edges one call is about."""
    structures = load_all(job.structure) if job.call == "batch" else [load_structure(job.structure)]
    return {
        "atoms": sum(map(len, structures)),
        "edges": sum(count_edges(potential, atoms) for atoms in structures),
    }


def count_edges(potential: Potential, atoms: Atoms) -> int:
    """Return the number of directed edges within the potential's cutoff."""
    data = from_ase(atoms, label_keys={})
    edges = data.with_edges(potential.cutoff, max_neighbors=potential.max_neighbors).edges
    return 0 if edges is None else int(edges.index.shape[1])


def main() -> None:
    """Serve one job."""
    job = Job.from_json(sys.argv[1])
    torch.set_num_threads(job.threads)
    units: list[MLIPPredictUnit] = []

    def load() -> Callable[[int], dict[str, Any]]:
        units.append(load_unit(job))
        return prepare(job, units[0])

    def describe() -> dict[str, Any]:
        return {
            "versions": {"adatom": version("adatom"), "torch": torch.__version__},
            **size(job, units[0].potential),
        }

    serve(load, describe, release_idle)


if __name__ == "__main__":
    main()
