"""IS2RE sets: relaxations, pairs of files, databases and adsorption energies."""

from __future__ import annotations

import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from adatom.core.errors import ConfigError, DataError, UnknownNameError
from adatom.data import open_dataset
from adatom.data.writers import write_structures

DATA = Path(os.environ.get("ADATOM_SHARED", "/work/shared")) / "data"
OC20 = DATA / "oc20_relaxations"


def step(energy: float | None, height: float, *, sid: str | None = None) -> Atoms:
    atoms = Atoms("PtO", [[0, 0, 0], [0, 0, height]], cell=[4, 4, 12], pbc=True)
    if energy is not None:
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((2, 3)))
    if sid is not None:
        atoms.info["sid"] = sid
    return atoms


def test_real_relaxations_agree_with_the_database() -> None:
    files = sorted((OC20 / "traj").glob("*.traj.xz"))[:3]
    relaxations = open_dataset(files, frames="relaxation")
    database = open_dataset(OC20 / "is2re.aselmdb")
    rows = {system.sid[0].removesuffix("-frame-0"): system for system in database}
    assert len(relaxations) == 3
    for path, system in zip(files, relaxations, strict=True):
        assert system.sid == [path.name.removesuffix(".traj.xz")]
        row = rows[system.sid[0]]
        for name in ("energy", "relaxed_energy", "relaxed_pos", "forces"):
            np.testing.assert_allclose(system.labels[name], row.labels[name], atol=1e-9)
        np.testing.assert_allclose(system.pos, row.pos, atol=1e-9)
        assert system.fixed.tolist() == row.fixed.tolist()
    steps = open_dataset(files[0])
    assert steps[2].sid == [f"{relaxations[0].sid[0]}-frame-2"]
    assert float(steps[-1].labels["energy"]) == float(relaxations[0].labels["relaxed_energy"])
    documents = json.loads((OC20 / "systems.json").read_text())
    assert str(steps[0].num_atoms) in json.dumps(documents)


def test_parts_of_a_database_by_what_it_says() -> None:
    path = OC20 / "is2re.aselmdb"
    sizes = [len(open_dataset(path, where={"split": s})) for s in ("train", "val_ood")]
    assert sizes == [15, 5]
    assert len(open_dataset(path, where={"split": ["train", "val_ood"]}, index=":3")) == 3
    with pytest.raises(DataError, match=r"split = 'val_odd'.*val_ood.*train, val_ood"):
        open_dataset(path, where={"split": "val_odd"})
    with pytest.raises(DataError, match=r"says its 'splt'.*'split'"):
        open_dataset(path, where={"splt": "train"})
    with pytest.raises(ConfigError, match="names no value"):
        open_dataset(path, where={"split": []})


def test_adsorption_energies_per_adsorbate_are_multiplied() -> None:
    path = DATA / "xu_kitchin_adsorption/xu_kitchin_2014.extxyz.xz"
    product = {"relaxed_energy": "adsorption_energy_per_ads*n_ads"}
    systems = open_dataset(path, label_keys=product, where={"metal": "Rh", "n_ads": [1, 2, 3, 4]})
    with lzma.open(path, "rt") as text:
        frames = [a for a in read(text, ":", format="extxyz") if a.info["metal"] == "Rh"]
    frames = [a for a in frames if a.info["n_ads"]]
    assert len(systems) == len(frames) > 100
    for system, atoms in zip(systems, frames, strict=True):
        expected = atoms.info["adsorption_energy_per_ads"] * atoms.info["n_ads"]
        assert float(system.labels["relaxed_energy"]) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(KeyError, match=r"under the key 'n_add'.*n_ads"):
        open_dataset(path, label_keys={"energy": "adsorption_energy_per_ads*n_add"}, index=":30")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    initial, relaxed = tmp_path / "initial.extxyz", tmp_path / "relaxed.extxyz"
    write(initial, [step(None, 2.0, sid="a"), step(None, 2.5, sid="b")])
    write(relaxed, [step(-7.0, 1.7, sid="b"), step(-6.0, 1.8, sid="a")])
    return initial, relaxed


def test_pairs_are_found_by_sid_or_order(pair: tuple[Path, Path], tmp_path: Path) -> None:
    initial, relaxed = pair
    systems = open_dataset(initial, relaxed=relaxed)
    assert [float(s.labels["relaxed_energy"]) for s in systems] == [-6.0, -7.0]
    assert [float(s.labels["relaxed_pos"][1, 2]) for s in systems] == [1.8, 1.7]
    assert "energy" not in systems[0].labels
    assert len(systems.fingerprint()["files"]) == 2
    unnamed = tmp_path / "unnamed.extxyz"
    write(unnamed, [step(-7.0, 1.7), step(-6.0, 1.8)])
    by_order = open_dataset(initial, relaxed=unnamed)
    assert [float(s.labels["relaxed_energy"]) for s in by_order] == [-7.0, -6.0]
    named = open_dataset(initial, relaxed=relaxed, label_keys={"energy": "energy"})
    assert set(named[0].labels) == {"relaxed_energy", "relaxed_pos"}
    # What is written is read again.
    write_structures(tmp_path / "both.extxyz", systems)
    again = open_dataset(tmp_path / "both.extxyz")
    assert [float(s.labels["relaxed_energy"]) for s in again] == [-6.0, -7.0]
    np.testing.assert_array_equal(again[1].labels["relaxed_pos"], systems[1].labels["relaxed_pos"])


def test_pairs_that_do_not_fit(pair: tuple[Path, Path], tmp_path: Path) -> None:
    initial, relaxed = pair
    other = tmp_path / "other.extxyz"
    write(other, [step(-7.0, 1.7, sid="c")])
    with pytest.raises(DataError, match="the sid 'a', and no relaxed structure has it"):
        open_dataset(initial, relaxed=other)
    write(other, [step(-7.0, 1.7)])
    with pytest.raises(DataError, match="2 initial and 1 relaxed"):
        open_dataset(initial, relaxed=other)
    write(other, [step(-7.0, 1.7, sid="a")] * 2)
    with pytest.raises(DataError, match="Two relaxed structures have the sid 'a'"):
        open_dataset(initial, relaxed=other)
    write(other, [step(None, 1.7, sid="a"), step(None, 1.7, sid="b")])
    with pytest.raises(DataError, match="no energy in its relaxed structure"):
        open_dataset(initial, relaxed=other)
    swapped = step(-7.0, 1.7, sid="a")[::-1]
    swapped.calc = step(-7.0, 1.7).calc
    write(other, [swapped, step(-7.0, 1.7, sid="b")])
    with pytest.raises(DataError, match="other atoms"):
        open_dataset(initial, relaxed=other)
    with pytest.raises(ConfigError, match="Both frames: relaxation and"):
        open_dataset(initial, relaxed=relaxed, frames="relaxation")
    with pytest.raises(UnknownNameError, match="relaxaton"):
        open_dataset(initial, frames="relaxaton")  # type: ignore[arg-type]


def test_damaged_trajectories(tmp_path: Path) -> None:
    path = tmp_path / "one.traj"
    write(path, [step(-1.0, 2.0)])
    with pytest.raises(DataError, match=r"one\.traj.* has one frame"):
        open_dataset(path, frames="relaxation")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="cannot be read by ASE as a trajectory"):
        open_dataset(path)
    path.write_bytes(b"no trajectory at all, but some text")
    with pytest.raises(DataError, match="cannot be read by ASE as a trajectory"):
        open_dataset(path)


def test_relaxed_labels_have_units(tmp_path: Path) -> None:
    frame = step(None, 2.0)
    frame.info["energy_relaxed"] = 1.0
    frame.arrays["pos_relaxed"] = frame.positions.copy()
    write(tmp_path / "bohr.extxyz", [frame])
    (system,) = open_dataset(tmp_path / "bohr.extxyz", units={"length": "bohr", "energy": "Ha"})
    np.testing.assert_allclose(system.labels["relaxed_pos"], system.pos)
    assert float(system.labels["relaxed_energy"]) == pytest.approx(27.2113862, rel=1e-7)
    write_structures(tmp_path / "again.extxyz", [system])
    (again,) = open_dataset(tmp_path / "again.extxyz")
    assert float(again.labels["relaxed_energy"]) == float(system.labels["relaxed_energy"])
