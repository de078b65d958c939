"""One calculation with the presets and with settings of one's own.

The imports are those of a script for fairchem-core with `fairchem.core` replaced by
`adatom.compat.fairchem`. Run it with `python examples/seed_inference_settings.py CHECKPOINT`.
"""

from __future__ import annotations

import argparse
import os

from adatom.compat.fairchem import (
    FAIRChemCalculator,
    InferenceSettings,
    get_fcc_crystal_by_num_atoms,
    pretrained_mlip,
)

SETTINGS = {
    # Any input; nothing is prepared for one composition.
    "default": "default",
    # A long run of one composition: its experts are merged once.
    "turbo": "turbo",
    "custom": InferenceSettings(
        tf32=True,
        activation_checkpointing=True,
        merge_mole=True,
        compile=False,
        external_graph_gen=False,
        internal_graph_gen_version=2,
    ),
}


def main() -> None:
    """Compare the settings on one crystal."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("ADATOM_UMA", "uma-s-1p2p1")
    parser.add_argument("checkpoint", nargs="?", default=default, help="name or path")
    parser.add_argument("--atoms", type=int, default=100, help="size of the crystal")
    options = parser.parse_args()

    for name, settings in SETTINGS.items():
        predictor = pretrained_mlip.get_predict_unit(
            options.checkpoint, inference_settings=settings
        )
        atoms = get_fcc_crystal_by_num_atoms(options.atoms)
        atoms.calc = FAIRChemCalculator(predictor, task_name="omat")
        energy = atoms.get_potential_energy()
        force = abs(atoms.get_forces()).max()
        print(f"{name:10}{energy:14.5f} eV   largest force {force:.5f} eV/A")
    print(predictor.unit.explain())


if __name__ == "__main__":
    main()
