"""Relax many structures together, then run a dynamics of each at its own temperature.

`adatom relax` does the first from file to file, and `adatom md --index :` the second with one
temperature. Run it with `python examples/many_structures.py --output many`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from adatom import MLIPPredictUnit, open_dataset
from adatom.simulate.batched.dynamics import run_many_md
from adatom.simulate.batched.flight import Dynamics
from adatom.simulate.batched.relax_file import relax_to_file
from adatom.simulate.batched.relaxation import RelaxationSettings, relax_many
from adatom.simulate.ensembles import NVT

STRUCTURES = Path(__file__).parent / "data" / "acac_test.extxyz"


def main() -> None:
    """Relax molecules, heat them, and show that one bad structure stops nobody."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="name or path of a checkpoint")
    parser.add_argument("--task", default="acac", help="level of theory")
    parser.add_argument("--steps", type=int, default=50, help="of relaxation, and of 0.5 fs each")
    parser.add_argument("--output", type=Path, default=Path("many"), help="folder to write to")
    options = parser.parse_args()
    unit = MLIPPredictUnit.load(options.model)
    systems = open_dataset(STRUCTURES, dataset=options.task, label_keys={}, lazy=True)

    # From sequence to file, in input order. Killed? The same call continues.
    settings = RelaxationSettings(optimizer="LBFGS", fmax=0.05, steps=options.steps)
    done = relax_to_file(
        systems,
        options.output / "relaxed.extxyz",
        unit,
        task_name=options.task,
        settings=settings,
        info=systems.info,
    )
    for outcome in done.outcomes:
        state = "converged" if outcome.converged else "not converged"
        print(f"{outcome.sid}: {state} after {outcome.steps} steps, {outcome.after:.4f} eV")

    # In memory: fmax and steps may differ from structure to structure.
    atoms = [system.to_ase()[0] for system in systems[:3]]
    atoms[1].positions[1] = atoms[1].positions[0]
    limits = RelaxationSettings(fmax=[0.05, 0.05, 0.2], steps=[20, 20, 5])
    for record in relax_many(atoms, unit, task_name=options.task, settings=limits):
        print(f"{record.number}: {record.error or f'{record.max_force:.3f} eV/angstrom'}")

    runs = [
        Dynamics(
            structure=system,
            ensemble=NVT(temperature=temperature),
            timestep=0.5,
            steps=options.steps,
            seed=i,
            trajectory=options.output / f"md_{i}.traj",
        )
        for i, (system, temperature) in enumerate(zip(systems[:3], (200, 400, 600), strict=True))
    ]
    for run, flown in zip(
        runs, run_many_md(runs, unit, task_name=options.task, overwrite=True), strict=True
    ):
        held, last = run.ensemble.temperature, flown.log[-1].temperature_K
        print(f"{flown.sid}: {flown.steps} steps at {held:g} K, {last:.0f} K at the end")


if __name__ == "__main__":
    main()
