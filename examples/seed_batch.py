"""Molecules, a crystal and a surface in one batch, each with its own task.

The imports are those of a script for fairchem-core with `fairchem.core` replaced by
`adatom.compat.fairchem`. Run it with `python examples/seed_batch.py CHECKPOINT`.
"""

from __future__ import annotations

import argparse
import os

from ase.build import bulk, fcc111, molecule

from adatom.compat.fairchem import AtomicData, atomicdata_list_to_batch, pretrained_mlip


def main() -> None:
    """Predict them together."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("ADATOM_UMA", "uma-s-1p2p1")
    parser.add_argument("checkpoint", nargs="?", default=default, help="name or path")
    options = parser.parse_args()

    water = molecule("H2O")
    water.info.update(charge=0, spin=1)
    hydroxide = molecule("OH")
    hydroxide.info.update(charge=-1, spin=1)
    structures = [
        (water, "omol"),
        (hydroxide, "omol"),
        (bulk("MgO", "rocksalt", a=4.2), "omat"),
        (fcc111("Pt", (2, 2, 3), vacuum=8, periodic=True), "oc20"),
    ]
    batch = atomicdata_list_to_batch(
        [
            AtomicData.from_ase(atoms, task_name=task, r_data_keys=["charge", "spin"])
            for atoms, task in structures
        ]
    )
    predictor = pretrained_mlip.get_predict_unit(options.checkpoint, inference_settings="batch")
    predicted = predictor.predict(batch)
    for i, (atoms, task) in enumerate(structures):
        force = predicted["forces"][batch.batch == i].norm(dim=1).max()
        print(
            f"{atoms.get_chemical_formula():8}{task:8}{float(predicted['energy'][i]):14.5f} eV   "
            f"largest force {float(force):.5f} eV/A"
        )


if __name__ == "__main__":
    main()
