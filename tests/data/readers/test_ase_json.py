"""Our decoder of ASE's JSON against ASE's own."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from ase.build import molecule
from ase.cell import Cell
from ase.constraints import FixAtoms, FixCartesian, FixedPlane
from ase.db.row import AtomsRow, atoms2dict
from ase.io.jsonio import decode, encode

from adatom.data.frame import Frame
from adatom.data.readers.ase_json import decode_ase
from adatom.data.readers.database_row import row_frame, row_to_atoms


@pytest.mark.parametrize(
    "value",
    [
        {"a": np.arange(6.0).reshape(2, 3), "b": np.array([True, False]), "c": []},
        {"1": [1, {"-2": np.zeros((0, 3))}], "1a": "text", "": None, "-": 1},
        {"x": float("nan"), "y": [float("inf"), -1e300]},
        {"z": 1 + 2j, "t": dt.datetime(2026, 1, 2, 3, 4, 5, 6)},  # noqa: DTZ001
        {"w": np.array([1 + 2j])},
        {"text": np.array(["H", "He"])},
        3,
    ],
)
def test_same_as_ase(value: object) -> None:
    text = encode(value)
    np.testing.assert_equal(decode_ase(text.encode()), decode(text))


def test_objects_of_ase() -> None:
    cell = np.arange(9.0).reshape(3, 3)
    text = encode({"cell": Cell(cell), "atoms": molecule("H2O"), "w": np.array([1 + 2j])})
    np.testing.assert_array_equal(decode_ase(encode({"cell": Cell(cell)}).encode())["cell"], cell)
    assert decode_ase(text.encode())["atoms"] == molecule("H2O")


def test_a_row_gives_what_ase_makes_of_it() -> None:
    atoms = molecule("CH3OH", cell=[5, 6, 7], pbc=[True, False, True])
    atoms.set_tags([0, 1, 2, 0, 0, 1])
    atoms.set_constraint([FixAtoms([0, -1]), FixCartesian(2), FixedPlane(1, (0, 0, 1))])
    row = {**atoms2dict(atoms), "energy": -1.0, "forces": np.ones((6, 3)), "free_energy": None}
    row |= {"key_value_pairs": {"sid": "a", "magmom": 2.0}, "data": {"charge": 1, "3": [1, 2]}}
    content = decode_ase(encode(row).encode())
    ours = row_frame(1, content)
    ase = Frame.of(row_to_atoms(AtomsRow({"id": 1, **decode(encode(row))})))
    for name in ("numbers", "positions", "cell", "pbc", "info", "results", "fixed"):
        np.testing.assert_equal(getattr(ours, name), getattr(ase, name), err_msg=name)
    np.testing.assert_equal(ours.arrays, ase.arrays)


def test_rows_with_texts_within_the_text() -> None:
    atoms = molecule("H2O")
    row = {**atoms2dict(atoms), "data": encode({"charge": 1}), "key_value_pairs": {}}
    row["constraints"] = encode([{"name": "FixAtoms", "kwargs": {"indices": [1]}}])
    frame = row_frame(1, decode_ase(encode(row).encode()))
    assert frame.info == {"charge": 1}
    assert frame.fixed.tolist() == [False, True, False]
