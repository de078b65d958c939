"""Many dynamics together: each is the run it would be alone, and its physics is right."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.io import read
from scipy.stats import chi2, kstest

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.core.errors import ConfigError, FileAccessError
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.simulate.batched.dynamics import run_many_md
from adatom.simulate.batched.flight import Dynamics
from adatom.simulate.ensembles import NPT, NVE, NVT
from adatom.simulate.md import run_md
from adatom.simulate.stopping import StopRequest
from adatom.simulate.trajectory import writing
from toy_backbone import toy_potential


@pytest.fixture(scope="module")
def unit():
    return MLIPPredictUnit(toy_potential())


def crystal(seed: int = 0, repeat: int = 1) -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True) * (repeat, 1, 1)
    atoms.rattle(0.03, seed=seed)
    return atoms


def mixed() -> list[Dynamics]:
    """Return runs of different sizes, ensembles, temperatures, time steps and lengths."""
    held = crystal(2, 2)
    held.set_constraint(FixAtoms([0, 3]))
    pushed = crystal(3)
    pushed.set_momenta(np.linspace(-1.0, 1.0, 12).reshape(4, 3))
    water = molecule("H2O")
    water.positions *= 2.7
    settings = [
        (crystal(0, 2), NVE(temperature=300), 20, 2.0),
        (crystal(1), NVT(temperature=500, friction=0.02), 35, 1.0),
        (held, NVT(temperature=200, friction=0.05), 12, 3.0),
        (pushed, NVE(), 25, 1.5),
        (water, NVT(temperature=350), 15, 0.5),
        (crystal(4), NVT(temperature=100, friction=0.0), 9, 1.0),
        (crystal(5), NPT(temperature=300, pressure_gpa=2.0, barostat_time=200.0), 14, 2.0),
        (crystal(6, 2), NPT(temperature=400, friction=0.05, barostat_time=100.0), 22, 1.5),
    ]
    return [
        Dynamics(structure=a, ensemble=e, steps=n, timestep=dt, seed=7 + i, interval=4)
        for i, (a, e, n, dt) in enumerate(settings)
    ]


def test_every_run_is_the_one_it_would_be_alone(unit):
    runs = mixed()
    calculator = MLIPCalculator(unit)
    records = run_many_md(runs, unit, limit=3)
    for run, record in zip(runs, records, strict=True):
        single = run_md(
            run.structure,
            calculator,
            ensemble=run.ensemble,
            steps=run.steps,
            timestep=run.timestep,
            seed=run.seed,
            interval=4,
        )
        assert (record.error, record.steps) == (None, run.steps)
        np.testing.assert_allclose(
            record.atoms.positions, single.atoms.positions, rtol=0, atol=1e-11
        )
        momenta = single.atoms.get_momenta()
        np.testing.assert_allclose(record.atoms.get_momenta(), momenta, rtol=0, atol=1e-10)
        assert [row.step for row in record.log] == [row.step for row in single.log]
        for row, expected in zip(record.log, single.log, strict=True):
            assert row.total_energy_eV == pytest.approx(expected.total_energy_eV, abs=1e-10)
            assert row.temperature_K == pytest.approx(expected.temperature_K, abs=1e-7)
            assert row.pressure_GPa == pytest.approx(expected.pressure_GPa, abs=1e-8)
        [alone] = run_many_md([run], unit)
        np.testing.assert_allclose(
            record.atoms.positions, alone.atoms.positions, rtol=0, atol=1e-12
        )
        np.testing.assert_allclose(record.atoms.cell, single.atoms.cell, rtol=0, atol=1e-11)
    np.testing.assert_array_equal(records[2].atoms.positions[3], runs[2].structure.positions[3])


def test_energy_is_conserved_in_each(unit):
    spread = {}
    for timestep in (4.0, 2.0):
        runs = [
            Dynamics(
                structure=crystal(seed, 2),
                ensemble=NVE(temperature=temperature),
                steps=int(120 / timestep),
                timestep=timestep,
                seed=seed,
                interval=1,
            )
            for seed, temperature in enumerate((150, 300, 450))
        ]
        energies = [
            [row.total_energy_eV for row in record.log] for record in run_many_md(runs, unit)
        ]
        spread[timestep] = np.ptp(energies, axis=1) / 8
    # Velocity Verlet is of second order: half the step, a quarter of the fluctuation.
    assert (spread[2.0] < 5e-4).all()
    assert ((spread[4.0] / spread[2.0] > 3.0) & (spread[4.0] / spread[2.0] < 5.0)).all()


def test_each_thermostat_gives_its_own_canonical_distribution(unit):
    wanted = [200.0, 400.0, 600.0]
    runs = [
        Dynamics(
            structure=crystal(seed),
            ensemble=NVT(temperature=temperature, friction=0.1),
            steps=420,
            timestep=4.0,
            seed=seed,
            interval=4,
        )
        for seed, temperature in enumerate(wanted)
    ]
    for temperature, record in zip(wanted, run_many_md(runs, unit), strict=True):
        found = np.array([row.temperature_K for row in record.log[15:]])
        assert found.mean() == pytest.approx(temperature, rel=0.1)
        # Twice the kinetic energy over kT is a sum of 12 squares of normal numbers.
        assert kstest(12 * found / temperature, chi2(12).cdf).pvalue > 0.005
        # ... and the distribution of another temperature is told apart.
        assert kstest(12 * found / (1.3 * temperature), chi2(12).cdf).pvalue < 1e-4


def with_files(runs: list[Dynamics], folder, name: str, steps: int | None = None):
    folder.mkdir(exist_ok=True)
    return [
        Dynamics(
            structure=run.structure,
            ensemble=run.ensemble,
            steps=run.steps if steps is None else min(steps, run.steps),
            timestep=run.timestep,
            seed=run.seed,
            interval=run.interval,
            trajectory=folder / f"{name}{i}.traj",
            log=folder / f"{name}{i}.csv",
        )
        for i, run in enumerate(runs)
    ]


def test_a_restart_is_the_uninterrupted_run(unit, tmp_path):
    runs = mixed()
    whole = run_many_md(with_files(runs, tmp_path, "whole"), unit)
    run_many_md(with_files(runs, tmp_path, "part", steps=12)[:4], unit)
    # Two have not begun, and one is complete.
    parts = run_many_md(with_files(runs, tmp_path, "part"), unit, restart=True)
    for i, (one, other) in enumerate(zip(whole, parts, strict=True)):
        assert one.steps == other.steps == runs[i].steps
        np.testing.assert_allclose(one.atoms.positions, other.atoms.positions, rtol=0, atol=1e-13)
        np.testing.assert_allclose(
            one.atoms.get_momenta(), other.atoms.get_momenta(), rtol=0, atol=1e-13
        )
        frames = read(tmp_path / f"part{i}.traj", ":")
        expected = read(tmp_path / f"whole{i}.traj", ":")
        steps = [frame.info["adatom_md"]["step"] for frame in frames]
        assert steps == sorted({*range(0, runs[i].steps, 4), runs[i].steps})
        assert steps == [frame.info["adatom_md"]["step"] for frame in expected]
        with (tmp_path / f"part{i}.csv").open() as stream:
            assert [int(row["step"]) for row in csv.DictReader(stream)] == steps
    # A single run goes on where one of many ended.
    run, calculator = runs[1], MLIPCalculator(unit)
    single = run_md(
        run.structure, calculator, ensemble=run.ensemble, steps=40, timestep=run.timestep,
        seed=run.seed, trajectory=tmp_path / "part1.traj", restart=True,
    )  # fmt: skip
    assert single.steps == 40


def test_a_run_that_was_killed_before_its_first_frame_begins(unit, tmp_path):
    run = Dynamics(structure=crystal(), steps=2, trajectory=tmp_path / "a.traj")
    with writing(run.trajectory, append=False):
        pass
    [record] = run_many_md([run], unit, restart=True)
    assert (record.error, record.steps) == (None, 2)
    assert len(read(run.trajectory, ":")) == 2
    run.trajectory.write_text("something else")
    [record] = run_many_md([run], unit, restart=True)
    assert "cannot be read" in record.error
    assert run.trajectory.read_text() == "something else"


def test_a_signal_saves_all_and_a_restart_continues(unit, tmp_path):
    runs = mixed()
    whole = run_many_md(runs, unit)
    stop = StopRequest()

    class Bar:
        advanced = 0

        def advance(self, n=1, **fields):
            del fields
            self.advanced += n
            if self.advanced > 30:
                stop.signal = "SIGTERM"

    files = with_files(runs, tmp_path, "run")
    stopped = run_many_md(files, unit, stop=stop, bar=Bar())
    assert 0 < min(record.steps for record in stopped) < 9
    rest = run_many_md(files, unit, restart=True)
    for one, other in zip(whole, rest, strict=True):
        np.testing.assert_allclose(one.atoms.positions, other.atoms.positions, rtol=0, atol=1e-12)


def test_runs_fail_alone_at_a_named_step(unit, tmp_path):
    exploding, overlapping = crystal(1), crystal(2)
    exploding.positions[1] = exploding.positions[0] + [0.25, 0, 0]
    overlapping.positions[1] = overlapping.positions[0]
    runs = [
        Dynamics(structure=atoms, ensemble=NVE(), steps=20, timestep=3.0, interval=2)
        for atoms in (crystal(0), exploding, overlapping, bulk("Au"), crystal(3))
    ]
    records = run_many_md(with_files(runs, tmp_path, "run"), unit)
    assert [record.error is None for record in records] == [True, False, False, False, True]
    assert "K (more than 20000 K) at step" in records[1].error
    assert "last saved state is step" in records[1].error
    assert "atoms 0 and 1" in records[2].error
    assert "has Au" in records[3].error
    assert (records[0].steps, records[4].steps) == (20, 20)
    [alone] = run_many_md([runs[4]], unit)
    np.testing.assert_allclose(
        records[4].atoms.positions, alone.atoms.positions, rtol=0, atol=1e-12
    )
    assert not (tmp_path / "run2.traj").exists()


def test_refusals_come_before_any_file(unit, tmp_path):
    held = crystal()
    held.set_constraint(FixAtoms([0]))
    pressed = [Dynamics(structure=a, ensemble=NPT(), steps=1) for a in (held, molecule("H2O"))]
    pressed.append(Dynamics(structure=crystal(), ensemble=NPT(friction=0.0), steps=1))
    records = run_many_md(pressed, unit)
    for record, words in zip(records, ("constraints", "periodic", "friction is 0"), strict=True):
        assert words in record.error
    for wrong in ({"steps": -1}, {"timestep": 0.0}, {"interval": 0}, {"seed": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Dynamics(structure=crystal(), **wrong)
    run = Dynamics(structure=crystal(), steps=1, trajectory=tmp_path / "a.traj")
    with pytest.raises(ConfigError, match="Two runs would write to"):
        run_many_md([run, run], unit)
    assert not (tmp_path / "a.traj").exists()
    run_many_md([run], unit)
    with pytest.raises(FileAccessError, match="exists"):
        run_many_md([run], unit)
    run_many_md([run], unit, overwrite=True)
    other = Dynamics(structure=crystal(), steps=3, seed=5, trajectory=tmp_path / "a.traj")
    [record] = run_many_md([other], unit, restart=True)
    assert "seed is 5" in record.error
