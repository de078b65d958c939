from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing

import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from adatom.core.errors import DataError, MissingLabelError
from adatom.data import open_dataset


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "a.db"
    db = connect(path)
    with db:
        for i in range(5):
            atoms = molecule("H2O")
            atoms.calc = SinglePointCalculator(atoms, energy=-float(i), forces=atoms.positions)
            db.write(atoms, group="even" if i % 2 == 0 else "odd", data={"charge": i % 2})
    db.delete([2])
    return path


def test_rows(database):
    data = open_dataset(database, required=["energy", "forces"])
    assert [s.sid[0] for s in data] == ["a.db:1", "a.db:3", "a.db:4", "a.db:5"]
    assert [s.labels["energy"].item() for s in data] == [0.0, -2.0, -3.0, -4.0]
    assert [int(s.charge) for s in data] == [0, 0, 1, 0]
    assert data.info(2)["group"] == "odd"


def test_rows_are_read_when_asked_for(database):
    data = open_dataset(database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE systems SET positions = x'00' WHERE id = 4")
        connection.commit()
    assert data[1].num_atoms == 3
    with pytest.raises(DataError, match=r"Row 4 of .*a\.db.*cannot be read"):
        data[2]


def test_not_a_database(tmp_path):
    path = tmp_path / "a.db"
    path.write_text("not a database, but long enough to look like a file " * 10)
    with pytest.raises(DataError, match="not a whole ASE database"):
        open_dataset(path)
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (x)")
    with pytest.raises(DataError, match="no such table: systems"):
        open_dataset(path)


def test_no_rows(tmp_path):
    path = tmp_path / "a.db"
    connect(path).delete([connect(path).write(molecule("H2O"))])
    with pytest.raises(DataError, match="no rows"):
        open_dataset(path)


def test_missing_label_in_a_lazy_row(tmp_path):
    path = tmp_path / "a.db"
    connect(path).write(molecule("H2O"), data={"toten": -1.0})
    data = open_dataset(path, required=["energy"])
    with pytest.raises(MissingLabelError, match=r"'a\.db:1' has no label 'energy'.*toten"):
        data[0]
    with pytest.raises(MissingLabelError, match="key 'total'; did you mean 'toten'"):
        open_dataset(path, label_keys={"energy": "total"})


def test_silver_ions(shared):
    path = shared / "data/charge_spin/gfn2_spookynet_like/ase_ag3_2200.db.xz"
    data = open_dataset(
        path,
        key_map={"charge": "total_charge", "unpaired_electrons": "spin_multiplicity"},
        required=["energy", "forces"],
        index="::100",
    )
    assert Counter(int(s.charge) for s in data) == {-1: 11, 1: 11}
    assert {int(s.spin) for s in data} == {1}
