"""``adatom relax`` and ``adatom md`` of files with many structures."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.checkpoint.format import save_potential
from adatom.cli.main import main
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.simulate.ensembles import NVT
from adatom.simulate.md import run_md
from adatom.simulate.relax import relax
from toy_backbone import toy_potential

ALLOWED = ["--allow", "toy_backbone.ToyBackbone", "--allow", "toy_backbone.ToyHead"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "toy.safetensors"
    save_potential(toy_potential(), path)
    return str(path)


@pytest.fixture
def structures(tmp_path):
    frames = []
    for k in range(4):
        atoms = bulk("Cu", "fcc", a=3.6, cubic=True) * (1 + k % 2, 1, 1)
        atoms.rattle(0.12 - 0.03 * k, seed=k)
        atoms.info["config_type"] = f"type {k}"
        frames.append(atoms)
    write(tmp_path / "in.xyz", frames)
    return str(tmp_path / "in.xyz")


def run(*arguments: str) -> int:
    return main([*ALLOWED, *arguments])


@pytest.mark.parametrize("options", [[], ["--cell", "--pressure_gpa", "2", "--optimizer", "FIRE"]])
def test_many_relax_as_each_alone(model, structures, tmp_path, capsys, options):
    out = tmp_path / "out.extxyz"
    command = ["relax", structures, "-o", str(out), "--model", model, "--fmax", "0.2"]
    assert run(*command, *options) == 0
    table = capsys.readouterr().out
    calculator = MLIPCalculator(MLIPPredictUnit(toy_potential()))
    settings = {"cell": True, "pressure_gpa": 2, "optimizer": "FIRE"} if options else {}
    for i, (atoms, start) in enumerate(zip(read(out, ":"), read(structures, ":"), strict=True)):
        alone = relax(start, calculator, fmax=0.2, **settings)
        np.testing.assert_allclose(atoms.positions, alone.atoms.positions, rtol=0, atol=2e-8)
        np.testing.assert_allclose(atoms.cell.array, alone.atoms.cell.array, rtol=0, atol=2e-8)
        assert (atoms.info["converged"], atoms.info["steps"]) == (True, alone.steps)
        assert atoms.info["config_type"] == f"type {i}"
        assert f"{alone.energies[-1]:.6f}" in table


def test_a_bad_structure_gives_its_error_and_exit_code_1(model, structures, tmp_path, capsys):
    frames = read(structures, ":")
    frames.insert(1, bulk("Au"))
    frames[3].positions[1] = frames[3].positions[0]
    write(tmp_path / "bad.xyz", frames)
    out = tmp_path / "out.xyz"
    command = ["relax", str(tmp_path / "bad.xyz"), "-o", str(out), "--model", model]
    assert run(*command, "--fmax", "0.05") == 1
    said = capsys.readouterr()
    assert said.out.count("failed") == 2
    assert "has Au, which this potential never saw" in said.err
    assert "atoms 0 and 1 at 0.000 angstrom" in said.err
    # The one that cannot be read is left out.
    assert [a.info["converged"] for a in read(out, ":")] == [True, False, True, True]
    assert run(*command, "--fmax", "1e-6", "--steps", "1") == 1
    assert "Not converged in 1 steps: bad.xyz:0, bad.xyz:2, bad.xyz:4" in capsys.readouterr().err


def test_many_run_as_each_alone(model, structures, tmp_path, capsys):
    out = str(tmp_path / "md.traj")
    command = ["md", structures, "-o", out, "--model", model, "--index", "1:", "--seed", "4"]
    command += ["--interval", "3", "--timestep", "2"]
    assert run(*command, "--steps", "5") == 0
    assert run(*command, "--steps", "9") == 2
    assert "md_0.traj' exists" in capsys.readouterr().err
    assert run(*command, "--steps", "9", "--restart") == 0
    calculator = MLIPCalculator(MLIPPredictUnit(toy_potential()))
    for i, start in enumerate(read(structures, "1:")):
        alone = run_md(start, calculator, ensemble=NVT(), steps=9, timestep=2.0, seed=4 + i)
        last = read(tmp_path / f"md_{i}.traj", index=-1)
        np.testing.assert_allclose(last.positions, alone.atoms.positions, rtol=0, atol=1e-10)
        with (tmp_path / f"md_{i}.csv").open() as stream:
            assert [int(row["step"]) for row in csv.DictReader(stream)] == [0, 3, 5, 6, 9]
    # Trajectories are also starts: their momenta are used.
    again = ["md", str(tmp_path / "md_1.traj"), "--index=-2:", "-o", str(tmp_path / "a.traj")]
    assert run(*again, "--model", model, "--ensemble", "nve", "--steps", "1") == 0
    first = read(tmp_path / "a_1.traj", index=0)
    last = read(tmp_path / "md_1.traj", index=-1)
    np.testing.assert_array_equal(first.get_momenta(), last.get_momenta())
    pressed = ["--ensemble", "npt", "--pressure_gpa", "3", "--barostat_time", "50", "--overwrite"]
    assert run(*command, "--steps", "6", *pressed) == 0
    volumes = [atoms.get_volume() for atoms in read(tmp_path / "md_2.traj", ":")]
    assert volumes[-1] != volumes[0]
