"""Structures to measure speed on where the user gives none."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule


def copper_box() -> Atoms:
    """Return fcc copper with 108 atoms in a cube."""
    atoms: Atoms = bulk("Cu", "fcc", a=3.61, cubic=True) * (3, 3, 3)
    atoms.rattle(0.05, seed=1)
    return atoms


def water_box() -> Atoms:
    """Return 64 water molecules on a grid, turned at random, at the density of the liquid."""
    generator = np.random.default_rng(1)
    spacing = 3.104
    atoms = Atoms(cell=[4 * spacing] * 3, pbc=True)
    for place in np.ndindex(4, 4, 4):
        water: Atoms = molecule("H2O")
        water.euler_rotate(*generator.uniform(0.0, 360.0, 3))
        water.positions = water.positions + spacing * np.array(place)
        atoms += water
    return atoms


#: Name to structure.
SAMPLES = {"copper": copper_box, "water": water_box}
