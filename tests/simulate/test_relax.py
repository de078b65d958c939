"""Relaxation: lower energy, small forces, the right cell, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.io.trajectory import Trajectory

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.core.errors import ConfigError, FileAccessError, OutOfDomainError, UnknownNameError
from adatom.simulate.errors import SimulationError
from adatom.simulate.relax import OPTIMIZERS, relax
from toy_backbone import toy_potential


@pytest.fixture(scope="module")
def calculator():
    return MLIPCalculator(toy_potential())


def crystal() -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.rattle(0.1, seed=2)
    return atoms


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_positions_reach_the_force_limit(calculator, optimizer):
    start = crystal()
    result = relax(start, calculator, optimizer=optimizer, fmax=0.005)
    assert result.converged
    assert result.max_force < 0.005
    assert result.energies[-1] < result.energies[0] - 0.01
    assert len(result.energies) == result.steps + 1
    np.testing.assert_array_equal(result.atoms.cell.array, start.cell.array)
    np.testing.assert_array_equal(start.positions, crystal().positions)


@pytest.mark.parametrize("pressure", [0.0, 5.0])
def test_the_cell_reaches_the_pressure(calculator, pressure):
    start = crystal()
    start.set_cell(start.cell * [1.02, 0.99, 1.0], scale_atoms=True)
    result = relax(start, calculator, cell=True, fmax=0.002, pressure_gpa=pressure)
    assert result.converged
    expected = np.array([-pressure] * 3 + [0.0] * 3)
    np.testing.assert_allclose(result.atoms.get_stress() / units.GPa, expected, atol=0.05)


def test_too_few_steps_are_reported(calculator):
    result = relax(crystal(), calculator, fmax=1e-4, steps=2)
    assert not result.converged
    assert result.steps == 2


def test_constraints_are_kept(calculator):
    start = crystal()
    start.set_constraint(FixAtoms([0]))
    result = relax(start, calculator)
    np.testing.assert_array_equal(result.atoms.positions[0], start.positions[0])


def test_every_step_is_in_the_trajectory(calculator, tmp_path):
    result = relax(crystal(), calculator, trajectory=tmp_path / "new" / "relax.traj")
    with Trajectory(tmp_path / "new" / "relax.traj") as frames:
        assert [frame.get_potential_energy() for frame in frames] == result.energies


def test_refusals_come_before_any_file(calculator, tmp_path):
    path = tmp_path / "relax.traj"
    with pytest.raises(UnknownNameError, match="did you mean 'FIRE'"):
        relax(crystal(), calculator, optimizer="FIRE2", trajectory=path)
    with pytest.raises(ConfigError, match="fmax"):
        relax(crystal(), calculator, fmax=0.0, trajectory=path)
    with pytest.raises(ConfigError, match="no volume"):
        relax(Atoms("Cu"), calculator, cell=True, trajectory=path)
    with pytest.raises(OutOfDomainError, match="Au"):
        relax(Atoms("Au"), calculator, trajectory=path)
    with pytest.raises(FileAccessError, match="folder"):
        relax(crystal(), calculator, trajectory=tmp_path)
    assert not path.exists()


def test_an_energy_that_is_not_finite_is_named_with_its_step(calculator):
    class Breaking(MLIPCalculator):
        calls = 0

        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.calls += 1
            if self.calls > 2:
                self.results["energy"] = float("nan")

    with pytest.raises(SimulationError, match="not finite at step 2"):
        relax(crystal(), Breaking(calculator.predict_unit), fmax=1e-4)
