"""Measures of trajectories against cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from adatom.core.errors import DataError
from adatom.evaluate.dynamics import energy_conservation, radial_distribution


def test_drift_of_a_straight_line() -> None:
    energy = np.linspace(-10.0, -9.96, 50)
    found = energy_conservation(energy, num_atoms=8)
    assert found.drift == pytest.approx(5.0)
    assert found.fluctuation == pytest.approx(0.0, abs=1e-9)
    assert found.largest == pytest.approx(5.0)


def test_a_bounded_oscillation_is_no_drift() -> None:
    energy = 0.008 * np.sin(np.linspace(0.0, 40.0 * np.pi, 4001))
    found = energy_conservation(energy, num_atoms=8)
    assert abs(found.drift) < 0.1
    assert found.largest == pytest.approx(1.0, rel=1e-3)


def test_ideal_gas_has_unit_distribution() -> None:
    rng = np.random.default_rng(1)
    frames = [
        Atoms(f"H{300}", positions=rng.uniform(0, 15, (300, 3)), cell=[15] * 3, pbc=True)
        for _ in range(20)
    ]
    r, g = radial_distribution(frames, cutoff=6.0, bins=30)
    assert g[r > 1.0].mean() == pytest.approx(1.0, abs=0.02)


def test_crystal_peaks_at_its_neighbor_distance() -> None:
    r, g = radial_distribution([bulk("Cu", "fcc", a=3.6, cubic=True)], cutoff=3.0)
    assert r[np.argmax(g)] == pytest.approx(3.6 / 2**0.5, abs=0.03)


def test_molecules_have_no_density() -> None:
    with pytest.raises(DataError, match="no volume"):
        radial_distribution([Atoms("H2", [[0, 0, 0], [0, 0, 1]])])
