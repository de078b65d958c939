"""Langevin dynamics of a molecule or a crystal, with the steps per second it makes (QPS).

The imports are those of a script for fairchem-core with `fairchem.core` replaced by
`adatom.compat.fairchem`. Run it with `python examples/seed_langevin.py CHECKPOINT`.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
from ase import units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from adatom.compat.fairchem import FAIRChemCalculator, get_fcc_carbon_xtal, pretrained_mlip


def main() -> None:
    """Run the dynamics and measure it."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("ADATOM_UMA", "uma-s-1p2p1")
    parser.add_argument("checkpoint", nargs="?", default=default, help="name or path")
    parser.add_argument("--atoms", type=int, default=0, help="of carbon; 0 means benzene")
    parser.add_argument("--steps", type=int, default=1000, help="that are measured")
    parser.add_argument("--warmup", type=int, default=10, help="steps before those")
    options = parser.parse_args()

    if options.atoms:
        atoms, task = get_fcc_carbon_xtal(options.atoms), "omat"
    else:
        atoms, task = molecule("C6H6"), "omol"
        atoms.info.update(charge=0, spin=1)
    predictor = pretrained_mlip.get_predict_unit(options.checkpoint, inference_settings="turbo")
    atoms.calc = FAIRChemCalculator(predictor, task_name=task)

    rng = np.random.default_rng(0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=400, rng=rng)
    dynamics = Langevin(
        atoms,
        timestep=0.5 * units.fs,
        temperature_K=400,
        friction=0.01 / units.fs,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(options.warmup)
    start = time.perf_counter()
    dynamics.run(options.steps)
    seconds = time.perf_counter() - start
    print(f"{len(atoms)} atoms, {options.steps} steps, {atoms.get_temperature():.0f} K")
    print(f"QPS {options.steps / seconds:.1f}")


if __name__ == "__main__":
    main()
