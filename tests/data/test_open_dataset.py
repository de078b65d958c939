from __future__ import annotations

import gzip
import hashlib
import lzma
import pickle
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from adatom.core.errors import (
    ConfigError,
    DataError,
    FileAccessError,
    MissingLabelError,
    UnknownNameError,
)
from adatom.data import open_dataset


def frames(count: int = 4) -> list[Atoms]:
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += rng.normal(size=(4, 3)) * 0.05
        atoms.info |= {"config_type": f"t{i % 2}", "charge": i % 2}
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=-float(i),
            forces=rng.normal(size=(4, 3)),
            stress=rng.normal(size=6),
        )
        made.append(atoms)
    return made


@pytest.fixture
def xyz(tmp_path) -> Path:
    path = tmp_path / "a.extxyz"
    ase.io.write(path, frames())
    return path


def test_extxyz(xyz):
    data = open_dataset(xyz, dataset="omat", required=["energy", "forces", "stress"])
    assert len(data) == 4
    assert data.dataset == "omat"
    assert data.path == str(xyz)
    assert data.label_keys == {"energy": "energy", "forces": "forces", "stress": "stress"}
    assert data[-1].labels["energy"].tolist() == [-3.0]
    assert data[1].sid == ["a.extxyz:1"]
    assert data[1].charge.tolist() == [1]
    assert data[0].dataset == ["omat"]
    assert data.info(1)["config_type"] == "t1"
    assert [system.sid for system in data[1:3]] == [["a.extxyz:1"], ["a.extxyz:2"]]
    np.testing.assert_allclose(data[2].labels["forces"], frames()[2].get_forces(), atol=1e-8)
    np.testing.assert_allclose(data[2].labels["stress"][0, 0, 1], frames()[2].get_stress()[5])
    with pytest.raises(IndexError):
        data[4]


@pytest.mark.parametrize(("ending", "compress"), [("xz", lzma.compress), ("gz", gzip.compress)])
def test_compressed_files(xyz, tmp_path, ending, compress):
    packed = tmp_path / f"b.extxyz.{ending}"
    packed.write_bytes(compress(xyz.read_bytes()))
    for one, two in zip(open_dataset(packed), open_dataset(xyz), strict=True):
        assert torch.equal(one.pos, two.pos)
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(DataError, match="damaged or cut off"):
        open_dataset(packed)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (":2", [0, 1]),
        ("::2", [0, 2]),
        (-1, [3]),
        ([3, 0], [3, 0]),
        (slice(1, 3), [1, 2]),
        ("2", [2]),
    ],
)
def test_index(xyz, index, expected):
    data = open_dataset(xyz, index=index)
    assert [s.sid for s in data] == [[f"a.extxyz:{i}"] for i in expected]


def test_bad_index(xyz):
    with pytest.raises(DataError, match="has 4 structures, and number 9"):
        open_dataset(xyz, index=9)
    with pytest.raises(ConfigError, match="index is 'first'"):
        open_dataset(xyz, index="first")
    with pytest.raises(DataError, match="no structure"):
        open_dataset(xyz, index="10:")


def test_several_files_and_folders(xyz, tmp_path):
    other = tmp_path / "b.xyz"
    ase.io.write(other, frames(2), format="extxyz")
    data = open_dataset([xyz, other], index=":2")
    assert [s.sid[0] for s in data] == ["a.extxyz:0", "a.extxyz:1", "b.xyz:0", "b.xyz:1"]
    assert len(open_dataset(tmp_path)) == 6
    assert len(data.fingerprint()["files"]) == 2
    with pytest.raises(FileAccessError, match="list of data files is empty"):
        open_dataset([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileAccessError, match="holds no data file"):
        open_dataset(tmp_path / "empty")


def test_fingerprint(xyz):
    fingerprint = open_dataset(xyz).fingerprint()
    assert fingerprint["sha256"] == hashlib.sha256(xyz.read_bytes()).hexdigest()
    assert fingerprint["count"] == 4
    assert fingerprint["elements"] == ["Cu"]


def test_pickling(xyz):
    data = pickle.loads(pickle.dumps(open_dataset(xyz)))
    assert data[3].labels["energy"].tolist() == [-3.0]


def test_missing_file_names_the_nearest(xyz):
    with pytest.raises(FileAccessError, match=r"does not exist; did you mean 'a\.extxyz'"):
        open_dataset(xyz.with_name("aa.extxyz"))


@pytest.mark.parametrize("ending", ["extxyz", "db", "aselmdb", "npz", "traj", "extxyz.xz"])
def test_empty_file(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    path.touch()
    with pytest.raises(FileAccessError, match="is empty"):
        open_dataset(path)


def test_blank_file(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text("\n\n")
    with pytest.raises(FileAccessError, match="is empty"):
        open_dataset(path)


def test_unknown_format_lists_the_known_ones(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("x")
    with pytest.raises(DataError, match=r"no known format.*\.extxyz.*\.aselmdb.*\.npz.*traj"):
        open_dataset(path)


@pytest.mark.parametrize("cut", [1, 5, 40, 100, 200, 300])
def test_half_written_last_frame(xyz, cut):
    xyz.write_bytes(xyz.read_bytes()[:-cut])
    if cut == 1:  # the last line break only: nothing is lost
        assert len(open_dataset(xyz)) == 4
        return
    with pytest.raises(DataError, match=r"Frame 3 .*half-written.*index=':3'"):
        open_dataset(xyz)
    assert len(open_dataset(xyz, index=":3")) == 3


def test_half_written_comment_or_count(xyz):
    lines = xyz.read_text().splitlines()
    xyz.write_text("\n".join(lines[:19]))
    with pytest.raises(DataError, match=r"Frame 3 .*half-written: it has 0 of its 4 atoms"):
        open_dataset(xyz)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("4\n", "5\n", "Frame 1 .* begins with"),
        ("4\n", "four\n", "Frame 0 .* begins with 'four'"),
        ("forces:R:3", "forces:R:2", r"Frame 0 .* has 7 columns for atom 0\. Expected 6"),
        ("forces:R:3", "forces:R", "Properties="),
        ("Cu ", "Qq ", "Frame 0 .*cannot be read"),
        ("energy=-0.0", "energy=nan", r"'a.extxyz:0' has NaN .* label 'energy'"),
    ],
)
def test_damaged_frames_are_named(xyz, old, new, message):
    text = xyz.read_text()
    assert old in text
    xyz.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        open_dataset(xyz)


def test_wrong_label_key(xyz):
    with pytest.raises(MissingLabelError, match=r"key 'enrgy'; did you mean 'energy'.*forces"):
        open_dataset(xyz, label_keys={"energy": "enrgy"})
    with pytest.raises(UnknownNameError, match="did you mean 'energy'"):
        open_dataset(xyz, label_keys={"energie": "energy"})


def test_named_label_may_be_missing_in_some_structures_unless_required(tmp_path):
    path = tmp_path / "a.xyz"
    atoms = frames(3)
    atoms[0].calc = None
    ase.io.write(path, atoms, format="extxyz")
    data = open_dataset(path, label_keys={"energy": "energy"})
    assert [list(s.labels) for s in data] == [[], ["energy"], ["energy"]]
    with pytest.raises(MissingLabelError, match=r"'a.xyz:0' has no label 'energy'.*config_type"):
        open_dataset(path, required=["energy"])


def test_frames_with_different_units_are_refused(tmp_path):
    path = tmp_path / "a.extxyz"
    atoms = frames(2)
    for frame, unit in zip(atoms, ["eV", "kcal/mol"], strict=True):
        frame.info["energy_unit"] = unit
    ase.io.write(path, atoms)
    with pytest.raises(DataError, match=r"Mixed units: structure 'a.extxyz:1'.*kcal/mol"):
        open_dataset(path, label_keys={"energy": "energy"})


def test_overlapping_atoms_are_found_on_opening(tmp_path):
    path = tmp_path / "a.xyz"
    ase.io.write(path, [molecule("H2O"), Atoms("H2", np.zeros((2, 3)))])
    with pytest.raises(DataError, match=r"'a\.xyz:1' has atoms 0 and 1"):
        open_dataset(path)


def test_odd_characters_and_windows_line_ends(xyz):
    text = xyz.read_text().replace("config_type=t0", 'config_type="\x0c\u2028\u00c5"')
    xyz.write_bytes(text.replace("\n", "\r\n").encode())
    assert open_dataset(xyz).info(0)["config_type"] == "\x0c\u2028\u00c5"


def test_plain_xyz(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text("2\na comment = odd\nH 0 0 0\nH 0 0 0.74\n\n\n")
    data = open_dataset(path)
    assert data[0].atomic_numbers.tolist() == [1, 1]
    assert data.label_keys == {}


@pytest.mark.parametrize("name", ["a.traj", "POSCAR", "a.cif", "a.json", "a.traj.xz"])
def test_what_ase_reads(tmp_path, name):
    path = tmp_path / name.removesuffix(".xz")
    ase.io.write(path, frames(1))
    if name.endswith(".xz"):
        packed = tmp_path / name
        packed.write_bytes(lzma.compress(path.read_bytes()))
        path = packed
    data = open_dataset(path)
    assert data[0].atomic_numbers.tolist() == [29] * 4
    assert data[0].pbc.all()
    if "traj" in name or "json" in name:
        assert data[0].labels["energy"].tolist() == [0.0]


def test_damaged_trajectory(tmp_path):
    path = tmp_path / "a.traj"
    ase.io.write(path, frames(3))
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match="cannot be read by ASE"):
        open_dataset(path)


def test_array_names_are_for_npz(xyz):
    with pytest.raises(ConfigError, match="only npz"):
        open_dataset(xyz, key_map={"pos": "R"})


def test_acac(shared):
    data = open_dataset(shared / "data/acac/train_300K.xyz", required=["energy", "forces"])
    assert len(data) == 500
    assert data.elements() == ["H", "C", "O"]
    assert not data[0].pbc.any()
    assert data.info(0)["config_type"] == "300K_MD"
    assert data[0].labels["energy"].item() == pytest.approx(-9391.45554428476, abs=1e-9)
    dihedral = open_dataset(shared / "data/acac/test_dihedral.xyz")
    assert list(dihedral.label_keys) == ["energy"]
    assert len(open_dataset(shared / "data/acac/isolated_atoms.xyz")) == 3


def test_silicon(shared):
    data = open_dataset(shared / "data/zuo2020/Si_test.extxyz.xz", required=["stress"])
    assert len(data) == 25
    assert data.info(0)["group"] == "Vacancy"
    stress = data[0].labels["stress"][0]
    assert torch.equal(stress, stress.T)
    assert stress[0, 1].item() == pytest.approx(0.0019715046699550496)


def test_liquid_virial_is_a_stress_of_the_right_sign(shared):
    data = open_dataset(shared / "data/ec_emc_liquid/ECEMC.xyz.xz", index="3::20")
    one = data[0]
    volume = torch.linalg.det(one.cell[0])
    virial = np.asarray(data.info(0)["virial"])
    np.testing.assert_allclose(one.labels["stress"][0], -virial / volume.item(), rtol=1e-6)
    assert one.num_atoms == 160


def test_oxides_compression_is_negative_stress(shared):
    data = open_dataset(shared / "data/bo2_multifidelity/bo2_PBE.extxyz.xz")
    curves = {}
    for i, system in enumerate(data):
        info = data.info(i)
        curve = curves.setdefault((info["oxide"], info["polymorph"]), [])
        curve.append((float(torch.linalg.det(system.cell[0])), system.labels["stress"][0].trace()))
    assert all(min(curve)[1] < max(curve)[1] for curve in curves.values())
    assert len(curves) > 20


def test_units_declared_in_a_real_file(shared):
    data = open_dataset(shared / "data/mattersim_bench/mpf-alkali-TP.xyz.xz", index=":5")
    assert data[0].labels["energy"].tolist() == [-49.15055874]
    with pytest.raises(DataError, match="Mixed units"):
        open_dataset(
            shared / "data/mattersim_bench/mpf-alkali-TP.xyz.xz",
            units={"energy": "Ha", "forces": "Ha/Bohr", "stress": "GPa"},
        )


def test_relaxation_trajectory(shared, tmp_path):
    source = shared / "data/oc20_relaxations/traj/random1000156.traj.xz"
    data = open_dataset(source, required=["energy", "forces"])
    assert data[0].fixed.any()
    shutil.copy(source, tmp_path / "x.traj.xz")
    assert open_dataset(tmp_path / "x.traj.xz").fingerprint()["count"] == len(data)
