"""The ASE calculator of a UMA checkpoint: an energy, a relaxation, a spin gap.

The imports are those of a script for fairchem-core with `fairchem.core` replaced by
`adatom.compat.fairchem`. Run it with `python examples/seed_ase_calculator.py CHECKPOINT`.
"""

from __future__ import annotations

import argparse
import os

from ase.build import add_adsorbate, bulk, fcc100, molecule
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE, LBFGS

from adatom.compat.fairchem import FAIRChemCalculator, MLIPPredictUnit, pretrained_mlip


def crystal(predictor: MLIPPredictUnit, steps: int) -> None:
    """Energy, forces and stress of iron, then its atoms and cell relaxed together."""
    atoms = bulk("Fe", "bcc", a=2.9, cubic=True)
    atoms.calc = FAIRChemCalculator(predictor, task_name="omat")
    print(f"Fe: {atoms.get_potential_energy():.4f} eV, stress {atoms.get_stress()[0]:.4f} eV/A^3")
    FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=0.05, steps=steps)
    print(f"Fe relaxed: cell of {atoms.cell.lengths()[0]:.3f} angstrom")


def adsorbate(predictor: MLIPPredictUnit, steps: int) -> None:
    """Relax CO on copper; the lowest layer is held."""
    slab = fcc100("Cu", (2, 2, 3), vacuum=8, periodic=True)
    slab.set_constraint(FixAtoms(mask=slab.get_tags() == 3))
    add_adsorbate(slab, molecule("CO"), height=2.0, position="bridge")
    slab.calc = FAIRChemCalculator(predictor, task_name="oc20")
    before = slab.get_potential_energy()
    LBFGS(slab, logfile=None).run(fmax=0.05, steps=steps)
    print(f"CO on Cu: {before:.4f} eV, relaxed {slab.get_potential_energy():.4f} eV")


def spin_gap(predictor: MLIPPredictUnit) -> None:
    """Compare singlet and triplet of methylene; charge and spin belong to the task omol."""
    energies = {}
    for name, spin in (("CH2_s1A1d", 1), ("CH2_s3B1d", 3)):
        atoms = molecule(name)
        atoms.info.update(charge=0, spin=spin)
        atoms.calc = FAIRChemCalculator(predictor, task_name="omol")
        energies[spin] = atoms.get_potential_energy()
    print(f"CH2: triplet lies {energies[3] - energies[1]:.4f} eV above the singlet")


def main() -> None:
    """Run all three."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("ADATOM_UMA", "uma-s-1p2p1")
    parser.add_argument("checkpoint", nargs="?", default=default, help="name or path")
    parser.add_argument("--steps", type=int, default=100, help="of each relaxation, at most")
    options = parser.parse_args()

    predictor = pretrained_mlip.get_predict_unit(options.checkpoint)
    crystal(predictor, options.steps)
    adsorbate(predictor, options.steps)
    spin_gap(predictor)


if __name__ == "__main__":
    main()
