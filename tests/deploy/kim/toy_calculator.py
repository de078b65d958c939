"""A toy potential as an ASE calculator that knows nothing of ghosts and lists."""

from __future__ import annotations

import numpy as np
from ase.calculators.calculator import Calculator
from kim_toys import direct


class ToyCalculator(Calculator):
    """A toy in its cell, without ghosts and lists."""

    implemented_properties = ("energy", "forces", "stress", "energies", "stresses")

    def __init__(self, model):
        super().__init__()
        self.model = model

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        super().calculate(atoms, properties, system_changes)
        found = direct(self.model, atoms)
        # direct() has the order xx, yy, zz, yz, xz, xy of ASE.
        stresses = np.repeat(found.stress[None] / len(atoms), len(atoms), axis=0)
        self.results = {
            "energy": found.energy,
            "energies": found.energies,
            "forces": found.forces,
            "stress": found.stress,
            "stresses": stresses,
        }
