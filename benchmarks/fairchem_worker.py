"""One measurement of fairchem-core; runs in its environment."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch
from ase.calculators.calculator import all_changes
from fairchem.core import FAIRChemCalculator
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch
from fairchem.core.units.mlip_unit import load_predict_unit
from fairchem.core.units.mlip_unit.api.inference import (
    InferenceSettings,
    guess_inference_settings,
)

from benchmarks.jobs import Job, serve
from benchmarks.structures import load_all, load_structure, moved

#: Calls that compute stress too.
_WITH_STRESS = ("efs", "ase")


def settings_of(job: Job) -> InferenceSettings:
    """Return the settings of a mode; ``batch`` and ``default`` are fairchem's own presets."""
    if job.mode == "merged":
        # Without compilation and without recomputing: what its documentation advises for one
        # composition where the compiler is no option.
        settings = InferenceSettings(merge_mole=True, activation_checkpointing=False)
    elif job.mode in ("unmerged", "loop"):
        settings = InferenceSettings(merge_mole=False, activation_checkpointing=False)
    else:
        settings = guess_inference_settings(job.mode)
    return replace(
        settings,
        torch_num_threads=job.threads,
        auto_add_default_untrained_tasks=job.call in _WITH_STRESS,
    )


def prepare(job: Job) -> Callable[[int], dict[str, Any]]:
    """Load the potential and return what one call does."""
    # Merging rebuilds the backbone from its settings, which have to know about stress.
    overrides = {"backbone": {"regress_stress": job.call in _WITH_STRESS}}
    unit = load_predict_unit(job.checkpoint, settings_of(job), overrides=overrides, device="cpu")
    structures = load_all(job.structure) if job.call == "batch" else [load_structure(job.structure)]
    atoms = structures[0]
    task = atoms.info["task"]

    def through_calculator(number: int) -> dict[str, Any]:
        calculator.calculate(moved(atoms, number), ["energy", "forces", "stress"], all_changes)
        return values_of([calculator.results])

    def through_unit(number: int) -> dict[str, Any]:
        data = [
            AtomicData.from_ase(
                moved(one, number), task_name=one.info["task"], r_data_keys=["charge", "spin"]
            )
            for one in structures
        ]
        size = 1 if job.mode == "loop" else len(data)
        parts = [data[start : start + size] for start in range(0, len(data), size)]
        return values_of([unit.predict(atomicdata_list_to_batch(part)) for part in parts])

    if job.call != "ase":
        return through_unit
    calculator = FAIRChemCalculator(unit, task_name=task)
    return through_calculator


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


def main() -> None:
    """Serve one job."""
    job = Job.from_json(sys.argv[1])
    versions = {"fairchem-core": version("fairchem-core"), "torch": torch.__version__}
    serve(lambda: prepare(job), lambda: {"versions": versions})


if __name__ == "__main__":
    main()
