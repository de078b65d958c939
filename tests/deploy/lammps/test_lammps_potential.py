"""adatom's own potentials in LAMMPS: the numbers of the predict unit, step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from lammps_cases import OUTPUT, Output, need_lammps

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.core.precision import torch_threads
from adatom.deploy.lammps.run import run_lammps
from adatom.inference.predict_unit import MLIPPredictUnit

TASK = "zuo2020"
#: eV/angstrom^3 in bar, as LAMMPS has it.
BAR = 1.6021765e6

SILICON = """
units metal
boundary p p p
atom_modify sort 3 2.0
lattice diamond 5.43
region box prism 0 1 0 1 0 1 {tilt} 0 0
create_box 1 box
create_atoms 1 box
mass 1 28.0855
displace_atoms all random 0.1 0.1 0.1 5
velocity all create 900 3 loop geom
neighbor 1.0 bin
"""


@pytest.fixture(scope="module")
def unit():
    """Return the embedded potential in double precision."""
    return MLIPPredictUnit.load("default", dtype=torch.float64)


@pytest.fixture
def run(tmp_path, monkeypatch, unit):
    """Return a function that runs a script with the potential and reads what it left."""
    need_lammps()
    monkeypatch.chdir(tmp_path)

    def run_text(text: str) -> Output:
        Path("in.test").write_text(text)
        for name in ("log.test", "atoms.dump"):
            Path(name).unlink(missing_ok=True)
        run_lammps("in.test", MLIPCalculator(unit, TASK), "Si", log="log.test", screen="none")
        return Output.read(Path("log.test"), Path("atoms.dump"))

    return run_text


def test_forces_energy_and_pressure_of_every_step_are_those_of_the_predict_unit(run, unit):
    script = SILICON.format(tilt=0.3) + OUTPUT.replace("thermo 5", "thermo 1")
    found = run(script.replace("custom 5", "custom 1") + "fix 1 all nve\nrun 10\n")
    a = 5.43
    cell = [[a, 0, 0], [0.3 * a, a, 0], [0, 0, a]]
    assert len(found.atoms) == 11
    for row, atoms in zip(found.thermo, found.atoms, strict=True):
        silicon = Atoms(f"Si{len(atoms)}", atoms[:, 1:4], cell=cell, pbc=True)
        wanted = unit.predict(silicon, task_name=TASK)
        assert row[2] == pytest.approx(float(wanted["energy"][0]), abs=1e-9)
        assert atoms[:, 4:] == pytest.approx(wanted["forces"].numpy(), abs=1e-10)
        stress = wanted["stress"][0].numpy()
        # What remains of LAMMPS's pressure without the motion of atoms.
        kinetic = (row[3] - row[2]) * 2 / 3 / row[10] * BAR
        trace = -np.trace(stress) * BAR / 3
        assert row[4:7].mean() - kinetic == pytest.approx(trace, rel=1e-6, abs=1e-2)


def test_pressure_is_minus_the_derivative_of_the_energy(run):
    tilt, h = 0.2, 2e-5
    script = SILICON.format(tilt=tilt).replace("velocity all create 900 3 loop geom", "")

    def scaled(factor: float, total: float) -> str:
        each = " ".join(f"{axis} scale {factor:.16g}" for axis in "xyz")
        return f"change_box all {each} xy final {tilt * total:.16g} remap\nrun 0\n"

    rows = run(
        script
        + OUTPUT.replace("dump", "# dump")
        + "run 0\n"
        + scaled(1 + h, 1 + h)
        + scaled((1 - h) / (1 + h), 1 - h)
    ).thermo
    here, larger, smaller = rows
    slope = -(larger[2] - smaller[2]) / (larger[10] - smaller[10]) * BAR
    assert here[4:7].mean() == pytest.approx(slope, rel=1e-6)
    assert abs(slope) > 1000


@pytest.mark.slow
def test_the_total_energy_is_conserved(run):
    nve = "velocity all scale 300\ntimestep 0.00025\nfix 1 all nve\nrun 400\n"
    rows = run(
        SILICON.format(tilt=0).replace("0.1 0.1 0.1", "0.05 0.05 0.05") + OUTPUT + nve
    ).thermo
    rows = rows[len(rows) // 4 :]
    drift = np.polyfit(0.00025 * rows[:, 0], rows[:, 3] / 8, 1)[0]
    assert abs(drift) < 1e-4  # eV per atom and ps
    assert np.ptp(rows[:, 2]) > 100 * np.ptp(rows[:, 3])


def test_minimize_finds_the_crystal(run):
    script = SILICON.format(tilt=0) + OUTPUT + "minimize 0 1e-6 200 400\n"
    found = run(script)
    assert np.abs(found.atoms[-1][:, 4:]).max() < 1e-3
    perfect = MLIPCalculator("default", TASK, dtype=torch.float64)
    silicon = bulk("Si", "diamond", a=5.43, cubic=True)
    silicon.calc = perfect
    assert found.thermo[-1, 2] == pytest.approx(silicon.get_potential_energy(), abs=1e-5)


def test_neighbors_are_searched_only_when_atoms_moved_far(unit, tmp_path, monkeypatch):
    need_lammps()
    monkeypatch.chdir(tmp_path)
    Path("in.test").write_text(SILICON.format(tilt=0) + "fix 1 all nve\nrun 10\n")
    calculator = MLIPCalculator(unit, TASK)
    result = run_lammps("in.test", calculator, "Si", screen="none")
    assert result.evaluations == 11
    assert calculator.neighbors.num_searches == 1


def test_lammps_does_not_take_threads_from_pytorch(unit, tmp_path, monkeypatch):
    need_lammps()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    Path("in.test").write_text(
        SILICON.format(tilt=0) + "run 0\nclear\n" + SILICON.format(tilt=0.1) + "run 0\n"
    )
    calculator, seen = MLIPCalculator(unit, TASK), []
    calculate = calculator.calculate

    def count(*args, **kwargs):
        seen.append(torch.get_num_threads())
        calculate(*args, **kwargs)

    monkeypatch.setattr(calculator, "calculate", count)
    with torch_threads(3):
        run_lammps("in.test", calculator, "Si", screen="none")
        assert torch.get_num_threads() == 3
    assert seen == [3, 3]


def test_charge_and_spin_reach_the_model(shared, tmp_path, monkeypatch):
    need_lammps()
    monkeypatch.chdir(tmp_path)
    uma = MLIPPredictUnit.load(shared / "reference" / "uma_tiny" / "tiny_uma.pt")
    water = Atoms("OH2", [[5, 5, 5], [5.76, 5.59, 5], [4.24, 5.59, 5]])
    water.info.update(charge=1, spin=2)
    wanted = float(uma.predict(water, task_name="omol")["energy"][0])
    Path("in.test").write_text("""
units real
boundary f f f
region box block 0 10 0 10 0 10
create_box 2 box
create_atoms 1 single 5 5 5
create_atoms 2 single 5.76 5.59 5
create_atoms 2 single 4.24 5.59 5
mass 1 15.999
mass 2 1.008
thermo_style custom pe
run 0
""")
    for charge, spin, same in ((1, 2, True), (-1, 2, False)):
        calculator = MLIPCalculator(uma, "omol", charge=charge, spin=spin)
        result = run_lammps("in.test", calculator, "1=O 2=H", screen="none")
        energy = result.thermo["PotEng"] * 0.0433641
        assert (energy == pytest.approx(wanted, abs=2e-3)) == same
