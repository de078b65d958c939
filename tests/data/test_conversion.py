"""Conversion between all formats: nothing lost, nothing half-written, the unusable listed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write

from adatom.cli.main import main
from adatom.core.errors import DataError
from adatom.data import StructureDataset, open_dataset
from adatom.data.conversion import convert_dataset

ENDINGS = ["extxyz", "xyz", "extxyz.xz", "extxyz.gz", "xyz.bz2", "db", "aselmdb", "npz"]


def source(path: Path, count: int = 5) -> Path:
    rng = np.random.default_rng(0)
    frames = []
    for i in range(count):
        atoms = bulk("Cu", cubic=True) * (1, 1, 1 + i % 2)
        atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
        labels = {"energy": rng.normal() * 1e5, "forces": rng.normal(size=(len(atoms), 3))}
        atoms.calc = SinglePointCalculator(atoms, stress=rng.normal(size=6), **labels)
        atoms.info |= {"sid": f"cu{i}", "charge": i % 3 - 1, "spin": 1 + i % 2, "kind": "solid"}
        atoms.set_tags(np.arange(len(atoms)) % 3)
        atoms.set_constraint(FixAtoms([1]))
        frames.append(atoms)
    write(path, frames, format="extxyz")
    return path


def assert_same(one: StructureDataset, two: StructureDataset) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.sid == b.sid
        for name in ("pos", "cell"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=1e-7)
        for name in ("atomic_numbers", "pbc", "charge", "spin", "tags", "fixed"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        assert sorted(a.labels) == sorted(b.labels)
        for name in a.labels:
            torch.testing.assert_close(a.labels[name], b.labels[name], rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("ending", ENDINGS)
def test_there_and_back(tmp_path: Path, ending: str) -> None:
    given = source(tmp_path / "in.extxyz")
    there, back = tmp_path / f"there.{ending}", tmp_path / "back.aselmdb"
    assert main(["data", "convert", str(given), str(there)]) == 0
    assert main(["data", "convert", str(there), str(back)]) == 0
    expected = open_dataset(given)
    assert_same(open_dataset(there), expected)
    assert_same(open_dataset(back), expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([given.name, there.name, back.name])
    if ending != "npz":
        assert open_dataset(there).info(0)["kind"] == "solid"


@pytest.mark.parametrize("ending", ["extxyz.gz", "db", "aselmdb"])
def test_processes_change_nothing(tmp_path: Path, ending: str) -> None:
    systems = open_dataset(source(tmp_path / "in.extxyz", 70), lazy=True)
    done: list[int] = []
    outputs = [tmp_path / f"{workers}.{ending}" for workers in (0, 2)]
    for workers, output in zip((0, 2), outputs, strict=True):
        convert_dataset(systems, output, workers=workers, advance=done.append)
    assert sum(done) == 140
    assert_same(*(open_dataset(output) for output in outputs))
    if ending != "db":
        assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_published_relaxations(shared: Path, tmp_path: Path) -> None:
    given = open_dataset(shared / "data/oc20_relaxations/is2re.aselmdb", lazy=True)
    convert_dataset(given, tmp_path / "out.extxyz.xz")
    assert_same(open_dataset(tmp_path / "out.extxyz.xz"), given)


def damaged(path: Path) -> Path:
    """Write 5 frames, of which the second has overlapping atoms and the fourth a NaN."""
    frames = source(path).read_text().splitlines(keepends=True)
    lines = [i for i, line in enumerate(frames) if line.startswith("Lattice")]
    columns = frames[lines[1] + 1].split()
    other = frames[lines[1] + 2].split()
    frames[lines[1] + 2] = " ".join([*columns[:4], *other[4:]]) + "\n"
    frames[lines[3]] = frames[lines[3]].replace("energy=", "energy=nan old=")
    path.write_text("".join(frames))
    return path


@pytest.mark.parametrize("workers", [0, 2])
def test_the_unusable_are_listed(tmp_path: Path, workers: int, capsys: object) -> None:
    given, output = damaged(tmp_path / "in.extxyz"), tmp_path / "out.db"
    command = ["data", "convert", str(given), str(output), "--workers", str(workers)]
    assert main(command) == 0
    assert [s.sid[0] for s in open_dataset(output)] == ["cu0", "cu2", "cu4"]
    document = json.loads((tmp_path / "out.db.rejected.json").read_text())
    assert document["written"] == 3
    assert [(r["index"], r["name"]) for r in document["rejected"]] == [
        (1, "in.extxyz:1"),
        (3, "in.extxyz:3"),
    ]
    assert "atoms 0 and 1" in document["rejected"][0]["reason"]
    assert "NaN" in document["rejected"][1]["reason"]
    # A conversion without rejected structures leaves no list of an older one behind.
    assert main([*command, "--index", "::2"]) == 0
    assert not (tmp_path / "out.db.rejected.json").exists()


def test_strict_writes_nothing(tmp_path: Path) -> None:
    given, output = damaged(tmp_path / "in.extxyz"), tmp_path / "out.aselmdb"
    output.write_text("precious")
    systems = open_dataset(given, lazy=True)
    with pytest.raises(DataError, match=r"in\.extxyz:1 is not usable"):
        convert_dataset(systems, output, strict=True)
    with pytest.raises(DataError, match="None of the 1 structures is usable"):
        convert_dataset(open_dataset(given, index=3, lazy=True), output)
    assert output.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.extxyz", "out.aselmdb"]
    assert main(["data", "convert", str(given), str(output), "--strict"]) == 2
    assert main(["data", "convert", str(given), str(tmp_path / "out.cif")]) == 2


def test_npz_needs_the_same_labels(tmp_path: Path) -> None:
    one, two = molecule("H2O"), molecule("CH4")
    one.calc = SinglePointCalculator(one, energy=-1.0)
    write(tmp_path / "in.extxyz", [one, two], format="extxyz")
    systems = open_dataset(tmp_path / "in.extxyz", lazy=True)
    with pytest.raises(DataError, match="do not both have energy"):
        convert_dataset(systems, tmp_path / "out.npz")


def test_a_database_may_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adatom.data import sinks

    monkeypatch.setattr(sinks, "FIRST_SIZE", 1 << 16)
    systems = open_dataset(source(tmp_path / "in.extxyz", 150), lazy=True)
    convert_dataset(systems, tmp_path / "out.aselmdb")
    assert (tmp_path / "out.aselmdb").stat().st_size > 1 << 16
    assert_same(open_dataset(tmp_path / "out.aselmdb"), systems)


def test_killed_conversions_leave_no_half_file(tmp_path: Path) -> None:
    given = source(tmp_path / "in.extxyz", 1500)
    output = tmp_path / "out" / "out.aselmdb"
    command = [sys.executable, "-m", "adatom", "data", "convert", str(given), str(output)]
    process = subprocess.Popen(
        [*command, "--workers", "1"], stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (output.parent.is_dir() and list(output.parent.iterdir())):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not output.exists()
