"""``adatom predict``, ``relax`` and ``md``, from file to file, and their refusals."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian
from ase.io import read, write

from adatom.checkpoint.format import load_potential, save_potential
from adatom.cli.main import main
from adatom.core.precision import seeded
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.models.energy_head import EnergyHead
from adatom.models.escn_md import eSCNMDBackbone
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task
from toy_backbone import toy_potential


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Save a tiny untrained potential with two tasks."""
    names = ["omat", "omol"]
    with seeded(3):
        backbone = eSCNMDBackbone(
            sphere_channels=4,
            hidden_channels=4,
            edge_channels=4,
            num_distance_basis=4,
            num_layers=1,
            lmax=1,
            mmax=1,
            cutoff=3.0,
            dataset_list=names,
        )
        head = EnergyHead(4, 4)
    tasks = [
        Task(f"{name}_energy", "system", "energy", OutputSpec((1,)), Normalizer(0.0, 0.1), [name])
        for name in names
    ]
    domain = Domain((1, 8, 29), charges=(0,), spins=(0, 1))
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_potential(Potential(backbone, head, tasks, dict.fromkeys(names, domain)), path)
    return str(path)


@pytest.fixture
def structures(tmp_path):
    frames = []
    for seed in range(5):
        atoms = bulk("Cu", "fcc", a=3.6) * (2, 1, 1) if seed % 2 else molecule("H2O")
        atoms.rattle(0.05, seed=seed)
        atoms.info["config_type"] = f"type {seed}"
        frames.append(atoms)
    path = tmp_path / "in.xyz"
    write(path, frames)
    return str(path)


@pytest.fixture
def copper(tmp_path):
    path = tmp_path / "cu.xyz"
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.rattle(0.05, seed=1)
    write(path, atoms)
    return str(path)


def test_predict_writes_what_the_predict_unit_gives(model, structures, tmp_path):
    out = tmp_path / "new" / "out.xyz"
    arguments = ["predict", structures, "-o", str(out), "--model", model, "--task", "omat"]
    assert main([*arguments, "--max_atoms", "4"]) == 0
    frames = read(out, ":")
    assert len(frames) == 5
    unit = MLIPPredictUnit(load_potential(model))
    expected = unit.predict(read(structures, ":"), task_name="omat")
    start = 0
    for i, atoms in enumerate(frames):
        assert atoms.info["config_type"] == f"type {i}"
        assert atoms.info["dataset"] == "omat"
        assert atoms.get_potential_energy() == pytest.approx(float(expected["energy"][i]), abs=1e-6)
        rows = slice(start, start + len(atoms))
        np.testing.assert_allclose(atoms.get_forces(), expected["forces"][rows], atol=1e-6)
        assert ("stress" in atoms.calc.results) == (i % 2 == 1)
        start += len(atoms)


def test_predict_takes_settings_and_properties(model, structures, tmp_path, capsys):
    out = tmp_path / "out.xyz"
    arguments = ["predict", structures, "-o", str(out), "--model", model, "--task", "omat"]
    names = ["--properties", "[energy, virials]", "--settings", "traineval", "--explain"]
    assert main([*arguments, *names]) == 0
    said = capsys.readouterr().err
    assert "the preset 'traineval'" in said
    assert "Execution 'general'" in said
    for atoms in read(out, ":"):
        assert set(atoms.calc.results) == {"energy"}
        assert atoms.arrays["virials"].shape == (len(atoms), 9)
    assert main([*arguments, "--settings", "turb"]) == 2
    assert "did you mean 'turbo'" in capsys.readouterr().err
    assert main([*arguments, "--properties", "[hessian]"]) == 2
    assert "Unknown property that a file" in capsys.readouterr().err


def test_predict_parses_each_row_of_a_database_once(model, structures, tmp_path, monkeypatch):
    from adatom.data.readers.ase_db import AseDbReader

    database, out = tmp_path / "in.db", tmp_path / "out.xyz"
    write(database, read(structures, ":"))
    rows = []
    parse = AseDbReader.frame
    monkeypatch.setattr(AseDbReader, "frame", lambda self, i: (rows.append(i), parse(self, i))[1])
    common = ["-o", str(out), "--model", model, "--task", "omat"]
    assert main(["predict", str(database), *common]) == 0
    assert rows[-5:] == [0, 1, 2, 3, 4]
    # Opening looks at the first for labels.
    assert len(rows) <= 6
    assert len(read(out, ":")) == 5


def test_relax_writes_structures_and_says_whether_they_converged(model, copper, tmp_path, capsys):
    out = str(tmp_path / "relaxed.xyz")
    arguments = ["relax", copper, "-o", out, "--model", model, "--task", "omat"]
    trajectory = tmp_path / "relax.traj"
    assert main([*arguments, "--cell", "--fmax", "0.5", "--trajectory", str(trajectory)]) == 0
    assert read(out).info["converged"]
    assert len(read(trajectory, ":")) >= 1
    assert main([*arguments, "--fmax", "1e-9", "--steps", "1"]) == 1
    assert not read(out).info["converged"]
    assert "Not converged in 1 steps" in capsys.readouterr().err


def test_md_writes_a_trajectory_and_a_log_and_restarts(model, copper, tmp_path):
    common = [copper, "--model", model, "--task", "omat", "--interval", "2", "--seed", "5"]
    whole, parts = str(tmp_path / "whole.traj"), str(tmp_path / "parts.traj")
    assert main(["md", *common, "-o", whole, "--steps", "8"]) == 0
    assert main(["md", *common, "-o", parts, "--steps", "4"]) == 0
    assert main(["md", *common, "-o", parts, "--steps", "8"]) == 2
    assert main(["md", *common, "-o", parts, "--steps", "8", "--restart"]) == 0
    last, expected = read(parts, index=-1), read(whole, index=-1)
    np.testing.assert_array_equal(last.positions, expected.positions)
    np.testing.assert_array_equal(last.get_momenta(), expected.get_momenta())
    with (tmp_path / "parts.csv").open() as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream)] == [0, 2, 4, 6, 8]
    # A trajectory is also a start: its last momenta are used.
    again = str(tmp_path / "again.traj")
    assert (
        main(["md", whole, "--index", "-1", "-o", again, "--ensemble", "nve", "--steps", "1",
              "--model", model, "--task", "omat"]) == 0
    )  # fmt: skip
    np.testing.assert_array_equal(read(again, index=0).get_momenta(), expected.get_momenta())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_restartable_trajectory(model, copper, tmp_path, number):
    path = str(tmp_path / "md.traj")
    command = ["md", copper, "-o", path, "--model", model, "--task", "omat", "--steps"]
    start = "import sys; from adatom.cli.main import main; sys.exit(main(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", start, *command, "1000000"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        log = tmp_path / "md.csv"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (
            not log.exists() or len(log.read_text().splitlines()) < 3
        ):
            time.sleep(0.05)
        process.send_signal(number)
        _, message = process.communicate(timeout=60)
    assert process.returncode == 128 + number, message
    assert f"Stopped by {number.name} after step" in message
    assert "Traceback" not in message
    step = read(path, index=-1).info["adatom_md"]["step"]
    assert main([*command, str(step + 3), "--restart"]) == 0
    assert read(path, index=-1).info["adatom_md"]["step"] == step + 3


def refused(capsys, arguments, *words):
    """Check for exit code 2 and one sentence without a traceback."""
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("verb", ["predict", "relax", "md"])
def test_bad_input_is_one_sentence_and_exit_code_2(verb, model, structures, tmp_path, capsys):
    suffix = ".traj" if verb == "md" else ".xyz"
    out = tmp_path / f"out{suffix}"
    good = ["-o", str(out), "--model", model, "--task", "omat"]
    refused(capsys, [verb, str(tmp_path / "im.xyz"), *good], "im.xyz", "in.xyz")
    refused(capsys, [verb, structures, "-o", str(out), "--model", model], "omat, omol")
    refused(capsys, [verb, structures, *good[:-1], "omal"], "'omal'", "did you mean")
    refused(capsys, [verb, structures, *good, "--devise", "cpu"], "devise", "device")
    refused(capsys, [verb, structures, *good, "--dtype", "float16"], "float16")
    refused(
        capsys,
        [verb, structures, "-o", f"/proc/no/out{suffix}", *good[2:]],
        "/proc/no/out",
        "cannot be written",
    )
    refused(capsys, [verb, structures, *good[:2], "--model", "defualt"], "defualt", "default")
    gold = tmp_path / "gold.xyz"
    write(gold, [bulk("Au")])
    refused(capsys, [verb, str(gold), *good], "has Au", "H, O, Cu")
    write(tmp_path / "cut.xyz", molecule("H2O"))
    text = (tmp_path / "cut.xyz").read_text()
    (tmp_path / "cut.xyz").write_text(text[: len(text) - 40])
    refused(capsys, [verb, str(tmp_path / "cut.xyz"), *good], "half-written")
    (tmp_path / "empty.xyz").touch()
    refused(capsys, [verb, str(tmp_path / "empty.xyz"), *good], "empty")
    assert not out.exists()


CONSTRAINTS = {
    "traj": FixBondLengths([(0, 1)]),
    "extxyz": FixCartesian([0], mask=(False, False, True)),
}


@pytest.mark.parametrize("ending", CONSTRAINTS)
@pytest.mark.parametrize(("verb", "kind"), [("relax", "xyz"), ("md", "traj")])
def test_constraints_that_would_be_lost_are_refused(
    verb, kind, ending, model, copper, tmp_path, capsys
):
    atoms = read(copper)
    atoms.set_constraint(CONSTRAINTS[ending])
    path, output = str(tmp_path / f"held.{ending}"), str(tmp_path / f"out.{kind}")
    write(path, atoms)
    how = ["-o", output, "--model", model, "--task", "omat"]
    name = type(CONSTRAINTS[ending]).__name__
    refused(capsys, [verb, path, *how], f"the constraint {name}, which would be lost")
    atoms.set_constraint(FixAtoms([0]))
    write(path, atoms)
    further = ["--fmax", "1e-9"] if verb == "relax" else []
    assert main([verb, path, *how, *further, "--steps", "2"]) in (0, 1)
    moved = np.abs(read(output).positions - atoms.positions).max(axis=1)
    assert moved[0] < 1e-7
    assert moved[1] > 1e-6


def test_outputs_of_an_unknown_kind_are_refused(model, structures, tmp_path, capsys):
    for verb in ("predict", "relax"):
        out = str(tmp_path / "out.pdb")
        refused(capsys, [verb, structures, "-o", out, "--model", model], ".extxyz")


def test_a_failure_in_the_middle_leaves_the_old_output(model, tmp_path, capsys):
    frames = [molecule("H2O"), molecule("H2O")]
    frames[1].info["charge"] = 3
    source, out = tmp_path / "in.xyz", tmp_path / "out.xyz"
    write(source, frames)
    out.write_text("precious")
    arguments = ["predict", str(source), "-o", str(out), "--model", model, "--task", "omol"]
    refused(capsys, arguments, "charge 3")
    assert out.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.xyz", "out.xyz"]


def test_only_one_structure_can_have_a_trajectory(model, structures, tmp_path, capsys):
    arguments = ["relax", structures, "-o", str(tmp_path / "o.xyz"), "--model", model]
    arguments += ["--task", "omat", "--trajectory", str(tmp_path / "t.traj")]
    refused(capsys, arguments, "5 structures", "--index")


def test_dtype_is_a_choice(model, copper, tmp_path):
    out = str(tmp_path / "out.xyz")
    base = ["predict", copper, "-o", out, "--model", model, "--task", "omat"]
    assert main([*base, "--dtype", "float64"]) == 0
    double = read(out).get_potential_energy()
    unit = MLIPPredictUnit(load_potential(model), dtype=torch.float64)
    expected = float(unit.predict(read(copper), task_name="omat")["energy"][0])
    assert double == pytest.approx(expected, abs=1e-7)


def test_own_classes_are_loaded_only_if_allowed(tmp_path, capsys):
    write(tmp_path / "cu.xyz", bulk("Cu", cubic=True), format="extxyz")
    save_potential(toy_potential(), tmp_path / "toy.safetensors")
    command = ["predict", str(tmp_path / "cu.xyz"), "--model", str(tmp_path / "toy.safetensors")]
    command += ["-o", str(tmp_path / "out.xyz")]
    assert main(command) == 2
    assert "toy_backbone.ToyBackbone" in capsys.readouterr().err
    allowed = ["--allow", "toy_backbone.ToyBackbone", "--allow", "toy_backbone.ToyHead"]
    assert main([*allowed, *command]) == 0
    assert "energy" in read(tmp_path / "out.xyz").calc.results
    assert main(["--allow"]) == 2
