from __future__ import annotations

import multiprocessing
import pickle
import shutil
import zlib

import lmdb
import numpy as np
import pytest
from ase.build import molecule
from ase.db.row import atoms2dict
from ase.io.jsonio import encode

from adatom.core.errors import DataError
from adatom.data import StructureDataset, open_dataset


@pytest.fixture
def relaxations(shared):
    return shared / "data/oc20_relaxations"


def write(path, rows, **entries):
    with (
        lmdb.open(str(path), subdir=False, lock=False, map_size=2**24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in {**rows, **entries}.items():
            packed = value if isinstance(value, bytes) else zlib.compress(encode(value).encode())
            transaction.put(str(key).encode(), packed)
    return path


def row(**more):
    return {**atoms2dict(molecule("H2O")), "energy": -1.0, "key_value_pairs": {}, **more}


def test_relaxations(relaxations):
    data = open_dataset(relaxations / "s2ef_val_id.aselmdb", required=["energy", "forces"])
    assert len(data) == 120
    system = data[0]
    assert system.sid[0].startswith("random1000100-frame-")
    assert system.fixed.tolist() == (system.tags == 0).tolist()
    assert system.pbc.all()
    assert data.label_keys == {"energy": "energy", "forces": "forces"}


def test_relaxed_energies(relaxations):
    data = open_dataset(
        relaxations / "is2re.aselmdb",
        label_keys={"energy": "energy", "relaxed_energy": "energy_relaxed"},
    )
    assert len(data) == 20
    assert all(s.labels["relaxed_energy"] < s.labels["energy"] for s in data)


def test_one_file_can_be_open_many_times(relaxations):
    path = relaxations / "s2ef_val_id.aselmdb"
    one, two = open_dataset(path, index=":60"), open_dataset(path, index="60:")
    assert one[0].sid != two[0].sid
    copy = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(copy[5].pos, one[5].pos)


def energies(data: StructureDataset) -> list[float]:
    return [system.labels["energy"].item() for system in data]


def test_other_processes(relaxations):
    data = open_dataset(relaxations / "s2ef_val_id.aselmdb", index=":10")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(energies, (data,)) == energies(data)


def test_gaps_and_declared_units(tmp_path):
    path = write(
        tmp_path / "a.aselmdb",
        {1: row(), 2: row(), 3: row(data={"charge": 1})},
        nextid=4,
        deleted_ids=[2],
        metadata={"energy_unit": "meV"},
    )
    data = open_dataset(path)
    assert [s.sid[0] for s in data] == ["a.aselmdb:1", "a.aselmdb:3"]
    assert data[0].labels["energy"].tolist() == [-1e-3]
    assert int(data[1].charge) == 1


def test_cut_off_file(relaxations, tmp_path):
    path = tmp_path / "a.aselmdb"
    shutil.copyfile(relaxations / "is2re.aselmdb", path)
    whole = path.read_bytes()
    for keep in (100, 4500, len(whole) // 2, len(whole) - 4096):
        path.write_bytes(whole[:keep])
        with pytest.raises(DataError, match=r"cut off|not an LMDB file"):
            open_dataset(path)


def test_not_a_database(tmp_path):
    path = tmp_path / "a.aselmdb"
    path.write_bytes(b"hello" * 1000)
    with pytest.raises(DataError, match="not an LMDB file"):
        open_dataset(path)
    with pytest.raises(DataError, match="not an ASE database"):
        open_dataset(write(tmp_path / "b.aselmdb", {0: row()}))
    with pytest.raises(DataError, match="no rows"):
        open_dataset(write(tmp_path / "c.aselmdb", {}, nextid=1))


def test_damaged_rows_are_named(tmp_path):
    path = write(
        tmp_path / "a.aselmdb",
        {1: row(), 2: b"\x80\x04pickle", 3: {"positions": [[0.0, 0.0, 0.0]]}, 4: [1, 2]},
        nextid=6,
    )
    data = open_dataset(path, index="::1", label_keys={})
    assert data[0].num_atoms == 3
    for i, message in (
        (1, "Row 2 .*damaged"),
        (2, "Row 3 .*not a structure"),
        (4, "Row 5 .*missing"),
    ):
        with pytest.raises(DataError, match=message):
            data[i]
    with pytest.raises(DataError, match=r"Row 4"):
        data[3]
