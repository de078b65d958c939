"""Molecular dynamics: physics, exact restart, stopping and refusals."""

from __future__ import annotations

import csv
import os
import signal

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.constraints import FixAtoms
from ase.io.trajectory import Trajectory

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.core.errors import ConfigError, DataError, FileAccessError, OutOfDomainError
from adatom.simulate.ensembles import NPT, NVE, NVT, StepRandom, thermalize
from adatom.simulate.errors import SimulationError
from adatom.simulate.md import run_md
from toy_backbone import toy_potential


@pytest.fixture(scope="module")
def calculator():
    return MLIPCalculator(toy_potential())


def crystal() -> Atoms:
    return bulk("Cu", "fcc", a=3.55, cubic=True) * (2, 2, 1)


def test_constant_energy_is_conserved(calculator):
    spread = {}
    for timestep in (4.0, 2.0):
        result = run_md(
            crystal(),
            calculator,
            ensemble=NVE(temperature=300),
            steps=int(600 / timestep),
            timestep=timestep,
            interval=1,
        )
        energy = np.array([row.total_energy_eV for row in result.log])
        spread[timestep] = np.ptp(energy) / len(result.atoms)
    # Velocity Verlet is of second order: half the step, a quarter of the fluctuation.
    assert spread[2.0] < 2e-4
    assert 3.0 < spread[4.0] / spread[2.0] < 5.0


def test_constant_energy_keeps_the_momentum(calculator):
    result = run_md(crystal(), calculator, ensemble=NVE(temperature=500), steps=100, timestep=2.0)
    assert np.abs(result.atoms.get_momenta().sum(0)).max() < 1e-10
    assert result.log[0].temperature_K == pytest.approx(500)


def test_langevin_holds_the_temperature(calculator):
    result = run_md(
        crystal(),
        calculator,
        ensemble=NVT(temperature=400, friction=0.05),
        steps=900,
        timestep=4.0,
        interval=1,
    )
    temperatures = [row.temperature_K for row in result.log[150:]]
    assert np.mean(temperatures) == pytest.approx(400, rel=0.08)
    # Canonical: the kinetic energy of f degrees of freedom varies by sqrt(2 / f).
    assert np.std(temperatures) / 400 == pytest.approx(np.sqrt(2 / 48), rel=0.3)


def test_barostat_reaches_the_pressure(calculator):
    stretched = crystal()
    stretched.set_cell(stretched.cell * 1.03, scale_atoms=True)
    result = run_md(
        stretched,
        calculator,
        ensemble=NPT(temperature=200, pressure_gpa=1.0, friction=0.05, barostat_time=200.0),
        steps=700,
        timestep=4.0,
        interval=1,
    )
    pressures = [row.pressure_GPa for row in result.log[250:]]
    assert abs(np.mean([row.pressure_GPa for row in result.log[:3]]) - 1.0) > 1.0
    assert np.mean(pressures) == pytest.approx(1.0, abs=0.25)
    cell = result.atoms.cell.array
    np.testing.assert_allclose(cell / cell[0, 0], stretched.cell.array / stretched.cell[0, 0])


@pytest.mark.parametrize("ensemble", [NVE(), NVT(temperature=350), NPT(barostat_time=300.0)])
def test_a_restart_is_the_uninterrupted_run(calculator, tmp_path, ensemble):
    arguments = {"ensemble": ensemble, "timestep": 2.0, "interval": 5, "seed": 7}
    files = {"trajectory": tmp_path / "whole.traj", "log": tmp_path / "whole.csv"}
    whole = run_md(crystal(), calculator, steps=40, **arguments, **files)
    files = {"trajectory": tmp_path / "parts.traj", "log": tmp_path / "parts.csv"}
    run_md(crystal(), calculator, steps=20, **arguments, **files)
    # A fresh calculator: nothing may survive but the file.
    fresh = MLIPCalculator(toy_potential())
    parts = run_md(crystal(), fresh, steps=40, restart=True, **arguments, **files)
    np.testing.assert_array_equal(parts.atoms.positions, whole.atoms.positions)
    np.testing.assert_array_equal(parts.atoms.get_momenta(), whole.atoms.get_momenta())
    np.testing.assert_array_equal(parts.atoms.cell.array, whole.atoms.cell.array)
    assert (tmp_path / "parts.csv").read_text() == (tmp_path / "whole.csv").read_text()
    with Trajectory(tmp_path / "parts.traj") as a, Trajectory(tmp_path / "whole.traj") as b:
        assert len(a) == len(b) == 9
        assert [x.info["adatom_md"]["step"] for x in a] == list(range(0, 41, 5))


def test_a_signal_finishes_the_step_and_leaves_a_restartable_run(calculator, tmp_path):
    files = {"trajectory": tmp_path / "md.traj", "log": tmp_path / "md.csv"}
    arguments = {"ensemble": NVT(), "steps": 30, "interval": 10, "timestep": 2.0}
    whole = run_md(crystal(), calculator, **arguments)

    def interrupt(atoms, step):
        if step == 17:
            os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    stopped = run_md(crystal(), calculator, on_step=interrupt, **arguments, **files)
    assert (stopped.stopped_by, stopped.steps) == ("SIGTERM", 17)
    assert signal.getsignal(signal.SIGTERM) == handler
    rest = run_md(crystal(), calculator, restart=True, **arguments, **files)
    np.testing.assert_array_equal(rest.atoms.positions, whole.atoms.positions)
    with (tmp_path / "md.csv").open() as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream)] == [0, 10, 17, 20, 30]


def test_rows_after_the_last_frame_are_written_again(calculator, tmp_path):
    files = {"trajectory": tmp_path / "md.traj", "log": tmp_path / "md.csv"}
    arguments = {"ensemble": NVE(), "interval": 5, "timestep": 2.0}
    run_md(crystal(), calculator, steps=10, **arguments, **files)
    with (tmp_path / "md.csv").open("a") as stream:
        stream.write("15,30.0,1,1,1,1,1,1\n20,40.")  # what a killed run may leave
    run_md(crystal(), calculator, steps=15, restart=True, **arguments, **files)
    with (tmp_path / "md.csv").open() as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream)] == [0, 5, 10, 15]


def test_the_start_is_left_alone_and_its_momenta_are_used(calculator):
    atoms = crystal()
    atoms.info["note"] = "mine"
    atoms.set_momenta(np.full((16, 3), 0.5))
    before = atoms.copy()
    result = run_md(atoms, calculator, ensemble=NVE(), steps=3)
    np.testing.assert_array_equal(atoms.positions, before.positions)
    assert atoms.info == before.info
    assert atoms.calc is None
    assert result.log[0].kinetic_energy_eV == pytest.approx(before.get_kinetic_energy())


def test_fixed_atoms_stay(calculator):
    atoms = crystal()
    atoms.set_constraint(FixAtoms([0, 3]))
    result = run_md(atoms, calculator, ensemble=NVT(temperature=600), steps=20, timestep=3.0)
    np.testing.assert_array_equal(result.atoms.positions[[0, 3]], atoms.positions[[0, 3]])
    assert result.log[0].temperature_K == pytest.approx(600)
    with pytest.raises(ConfigError, match="constraints"):
        run_md(atoms, calculator, ensemble=NPT(), steps=1)


def test_momenta_are_maxwell_boltzmann():
    atoms = bulk("Cu", cubic=True) * (8, 8, 8)
    thermalize(atoms, 700.0, StepRandom(1))
    velocities = atoms.get_velocities() / np.sqrt(700 * 8.617333e-5 / atoms.get_masses()[0])
    assert velocities.std() == pytest.approx(1, abs=1e-3)
    assert (velocities**4).mean() == pytest.approx(3, rel=0.05)
    assert np.abs(atoms.get_momenta().sum(0)).max() < 1e-9


def test_atoms_that_fly_apart_stop_the_run_at_a_named_step(calculator, tmp_path):
    atoms = crystal()
    atoms.positions[1] = atoms.positions[0] + [0.25, 0, 0]
    files = {"trajectory": tmp_path / "md.traj"}
    with pytest.raises(SimulationError, match=r"temperature is \d+ K at step \d.*last saved"):
        run_md(atoms, calculator, ensemble=NVE(), steps=50, timestep=3.0, **files)


def test_an_energy_that_is_not_finite_stops_the_run_at_a_named_step():
    class Breaking(Calculator):
        implemented_properties = ("energy", "forces")
        calls = 0

        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.calls += 1
            energy = float("nan") if self.calls > 3 else 0.0
            self.results = {"energy": energy, "forces": np.zeros((16, 3))}

    with pytest.raises(SimulationError, match="not finite at step 3"):
        run_md(crystal(), Breaking(), ensemble=NVE(), steps=9)


def test_refusals_come_before_any_file(calculator, tmp_path):
    path = tmp_path / "md.traj"
    with pytest.raises(OutOfDomainError, match="Au"):
        run_md(Atoms("Au"), calculator, steps=1, trajectory=path)
    for wrong in ({"steps": -1}, {"timestep": 0.0}, {"interval": 0}, {"seed": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            run_md(crystal(), calculator, trajectory=path, **wrong)
    with pytest.raises(ConfigError, match="temperature"):
        NVT(temperature=-1.0)
    with pytest.raises(ConfigError, match="periodic"):
        run_md(Atoms("Cu"), calculator, ensemble=NPT(), trajectory=path)
    with pytest.raises(ConfigError, match="no calculator"):
        run_md(crystal())
    assert not path.exists()


def test_existing_outputs_and_foreign_restarts_are_refused(calculator, tmp_path):
    path = tmp_path / "md.traj"
    run_md(crystal(), calculator, steps=2, interval=1, trajectory=path)
    with pytest.raises(FileAccessError, match="exists"):
        run_md(crystal(), calculator, steps=2, trajectory=path)
    with pytest.raises(ConfigError, match=r"seed is 3.*made with 0"):
        run_md(crystal(), calculator, steps=4, trajectory=path, restart=True, seed=3)
    with pytest.raises(DataError, match="Cu16"):
        run_md(Atoms("Cu"), calculator, steps=4, trajectory=path, restart=True)
    with pytest.raises(ConfigError, match="none is given"):
        run_md(crystal(), calculator, restart=True)
    with pytest.raises(FileAccessError, match="not exist"):
        run_md(crystal(), calculator, trajectory=tmp_path / "no.traj", restart=True)
    foreign = tmp_path / "foreign.traj"
    with Trajectory(foreign, "w") as writer:
        writer.write(crystal())
    with pytest.raises(DataError, match="nothing to restart"):
        run_md(crystal(), calculator, trajectory=foreign, restart=True)
    foreign.write_text("not a trajectory")
    with pytest.raises(DataError, match="cannot be read"):
        run_md(crystal(), calculator, trajectory=foreign, restart=True)
