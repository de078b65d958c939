"""Statistics against numbers that can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from adatom.data.ase_convert import from_ase
from adatom.data.statistics import dataset_statistics


def test_two_small_systems() -> None:
    water = Atoms("OH2", [[0, 0, 0], [0, 0, 1.0], [0, 0.9, 0]], info={"charge": 1, "spin": 2})
    forces = np.array([[3.0, 0, 0], [0, 4.0, 0], [0, 0, 12.0]])
    water.calc = SinglePointCalculator(water, energy=-6.0, forces=forces)
    water.set_constraint(FixAtoms([2]))
    copper = Atoms("Cu", cell=[2.0, 2.0, 3.0], pbc=True)
    copper.calc = SinglePointCalculator(copper, stress=[-0.3, -0.3, -0.3, 0, 0, 0])
    numbers = dataset_statistics([from_ase(water, sid="a"), from_ase(copper, sid="b")])
    assert numbers.num_structures == 2
    assert numbers.num_atoms == 4
    assert numbers.elements == {"H": (1, 2), "O": (1, 1), "Cu": (1, 1)}
    assert numbers.labels == {"energy": 1, "forces": 1, "stress": 1}
    assert numbers.pbc == {"FFF": 1, "TTT": 1}
    assert numbers.charges == {0: 1, 1: 1}
    assert numbers.spins == {0: 1, 2: 1}
    assert numbers.num_fixed_atoms == 1
    assert numbers.energy_per_atom.mean == pytest.approx(-2.0)
    assert numbers.force_rms == pytest.approx(5.0 / math.sqrt(6))  # two free atoms
    assert numbers.force_max.max == pytest.approx(4.0)
    assert numbers.net_force.max == pytest.approx(13.0)
    assert numbers.pressure.median == pytest.approx(0.3)
    assert numbers.shortest_distance.min == pytest.approx(0.9)
    assert numbers.shortest_distance.max == pytest.approx(2.0)
    assert numbers.volume_per_atom.mean == pytest.approx(12.0)
    assert numbers.density.mean == pytest.approx(63.546 * 1.66053907 / 12.0)


def test_absent_labels_are_nan_and_not_zero() -> None:
    numbers = dataset_statistics([from_ase(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), sid="x")])
    assert math.isnan(numbers.energy_per_atom.mean)
    assert math.isnan(numbers.force_rms)
    assert numbers.labels == {}
