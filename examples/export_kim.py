"""Export a potential to OpenKIM from Python, and try the result without KIM.

`adatom export kim default --name Silicon__MO_123456789012_000 --task zuo2020 --composition Si`
writes the same folder; `adatom kim install FOLDER` then makes it known to LAMMPS.
"""

from __future__ import annotations

import argparse

import torch
from ase.build import bulk

from adatom import MLIPCalculator
from adatom.checkpoint.format import load_potential
from adatom.deploy.kim.configuration import make_configuration
from adatom.deploy.kim.emulator import emulate
from adatom.deploy.kim.export import ExportOptions, export_potential
from adatom.deploy.kim.scripted_model import quiet_torchscript


def main() -> None:
    """Export, and compare one structure in the emulated contract with the potential."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="name or path of a checkpoint")
    parser.add_argument("--task", default="zuo2020", help="level of theory")
    parser.add_argument("--output", default="Silicon__MO_123456789012_000", help="folder")
    options = parser.parse_args()

    wanted = ExportOptions(
        name="Silicon__MO_123456789012_000",
        dataset=options.task,
        composition="Si",
        dtype=torch.float64,
    )
    potential = load_potential(options.model)
    found = export_potential(potential, wanted, options.output, provenance={"example": True})
    print(f"wrote {found.folder}, largest difference {max(found.differences.values()):.1e}")

    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=1)
    around = make_configuration(atoms, {"Si": 0}, found.description.influence_distance)
    with quiet_torchscript(), torch.no_grad():
        forward = torch.jit.load(found.folder / found.description.model_file)
        result = emulate(forward, found.description, around)
    print(
        f"{len(atoms)} atoms and {len(around.species) - len(atoms)} ghosts: {result.energy:.6f} eV"
    )
    atoms.calc = MLIPCalculator(options.model, task_name=options.task)
    print(f"the same structure in its cell: {atoms.get_potential_energy():.6f} eV")


if __name__ == "__main__":
    main()
