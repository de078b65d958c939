"""``adatom data``: tables, findings, files and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from adatom.cli.main import main
from adatom.data.open_dataset import open_dataset
from adatom.data.split import load_split


def write(path: Path, *, sign: float = 1.0) -> str:
    random = np.random.default_rng(0)
    frames: list[Atoms] = []
    for i in range(30):
        atoms = bulk("Cu", cubic=True, a=3.6)
        atoms.positions += 0.03 * random.normal(size=(4, 3))
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), sign * atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        atoms.info["group"] = f"run{i // 3}"
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")
    return str(path)


def test_stats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "cu.extxyz")
    assert main(["data", "stats", data, "--json", str(tmp_path / "s.json")]) == 0
    assert "Cu 120" in capsys.readouterr().out
    document = json.loads((tmp_path / "s.json").read_text())
    assert document["statistics"]["num_structures"] == 30
    assert document["statistics"]["pressure"]["mean"] is None
    assert len(document["data"]["sha256"]) == 64


def test_check_tells_errors_by_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "good.extxyz")
    bad = write(tmp_path / "bad.extxyz", sign=-1.0)
    assert main(["data", "check", good]) == 0
    text = capsys.readouterr().out
    assert "Cu 120" in text
    assert "ERROR" not in text
    out = tmp_path / "findings.json"
    assert main(["data", "check", bad, "--others.val", good, "--json", str(out)]) == 1
    text = capsys.readouterr().out
    assert "ERROR   forces-are-gradients" in text
    assert "fix: Flip the sign" in text
    assert "30 of 30 structures of 'val'" in text
    found = {(f["severity"], f["code"]) for f in json.loads(out.read_text())["findings"]}
    assert {("error", "forces-are-gradients"), ("warning", "leak")} <= found
    assert main(["data", "check", bad, "--label_keys.forces=-forces"]) == 0


def test_split_by_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write(tmp_path / "cu.extxyz"), tmp_path / "split.json"
    arguments = ["data", "split", data, "-o", str(out), "--method", "group"]
    assert main([*arguments, "--group_key", "group", "--seed", "3"]) == 0
    assert "train" in capsys.readouterr().out
    parts = load_split(out, source=open_dataset(data).fingerprint())
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 24, "val": 3, "test": 3}
    assert not {i // 3 for i in parts["train"]} & {i // 3 for i in parts["val"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "nowhere.xyz"], "nowhere.xyz"),
        (["chek", "x.xyz"], "check"),
        (["split", "DATA", "--method", "group", "--group_key", "grup"], "did you mean 'group'"),
        (["split", "DATA", "--method", "groups"], "groups"),
        (["stats", "DATA", "--label_keys.energy", "nrg"], "nrg"),
        (["check", "DATA", "--json", "/proc/nowhere/x.json"], "x.json"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    data = write(tmp_path / "cu.extxyz")
    assert main(["data", *(data if a == "DATA" else a for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
