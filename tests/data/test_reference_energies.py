"""Total and adsorption energies, made of each other by a table of reference energies."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from adatom.core.errors import ConfigError, DataError, FileAccessError
from adatom.data import open_dataset
from adatom.data.reference_energies import read_reference_energies


def slab(total: float, *, sid: str | None) -> Atoms:
    atoms = Atoms("PtO", [[0, 0, 0], [0, 0, 1.8]], cell=[4, 4, 12], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=total, forces=np.ones((2, 3)))
    if sid is not None:
        atoms.info["sid"] = sid
    return atoms


@pytest.fixture
def slabs(tmp_path: Path) -> Path:
    path = tmp_path / "slabs.extxyz"
    write(path, [slab(-103.5, sid="random7"), slab(-204.25, sid="random8")])
    return path


def table(folder: Path, text: str, name: str = "refs.txt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_references_are_subtracted_and_added_back(slabs: Path, tmp_path: Path) -> None:
    refs = table(tmp_path, "# sid, eV\nrandom7,-100.0\n8, -200.0\n")
    ads = open_dataset(slabs, energy="adsorption", reference_energies=refs)
    assert [float(s.labels["energy"]) for s in ads] == [-3.5, -4.25]
    assert ads[0].labels["forces"].tolist() == [[1.0] * 3] * 2
    described = ads.fingerprint()["energies"]
    assert described["kind"] == "adsorption"
    assert described["references"]["rule"] == "subtracted"
    assert described["references"]["name"] == "refs.txt"
    assert ads.identity() != open_dataset(slabs).identity()
    other = tmp_path / "ads.extxyz"
    write(other, [slab(-3.5, sid="7"), slab(-4.25, sid="random8")])
    total = open_dataset(other, energy="total", reference_energies=refs)
    assert [float(s.labels["energy"]) for s in total] == [-103.5, -204.25]


def test_energies_of_the_wanted_kind_are_not_changed_again(slabs: Path, tmp_path: Path) -> None:
    refs = table(tmp_path, '{"7": -100.0, "random8": -200.0}', "refs.json")
    with pytest.raises(DataError, match="look like total energies already"):
        open_dataset(slabs, energy="total", reference_energies=refs)
    ads = tmp_path / "ads.extxyz"
    write(ads, [slab(-3.5, sid="7")])
    with pytest.raises(DataError, match="look like adsorption energies already"):
        open_dataset(ads, energy="adsorption", reference_energies=refs)


def test_a_structure_without_a_reference_is_named(slabs: Path, tmp_path: Path) -> None:
    refs = table(tmp_path, "random7 -100.0\n")
    with pytest.raises(DataError, match=r"sid 'random8', which has no reference energy in"):
        open_dataset(slabs, energy="adsorption", reference_energies=refs)
    nameless = tmp_path / "nameless.extxyz"
    write(nameless, [slab(-103.0, sid=None)])
    with pytest.raises(DataError, match=r"nameless.*has no sid"):
        open_dataset(nameless, energy="adsorption", reference_energies=refs)


def test_tables_of_open_catalyst_name_the_frames(tmp_path: Path) -> None:
    with lzma.open(tmp_path / "0.extxyz.xz", "wt") as packed:
        write(packed, [slab(-103.0, sid=None), slab(-204.0, sid=None)], format="extxyz")
    with lzma.open(tmp_path / "0.txt.xz", "wt") as packed:
        packed.write("random7,frame0,-100.0\nrandom8,frame35,-200.0\n")
    systems = open_dataset(tmp_path, energy="adsorption", reference_energies=tmp_path)
    assert [s.sid[0] for s in systems] == ["random7-frame-0", "random8-frame-35"]
    assert [float(s.labels["energy"]) for s in systems] == [-3.0, -4.0]
    (tmp_path / "0.txt.xz").write_bytes(lzma.compress(b"random7,frame0,-100.0\n"))
    with pytest.raises(DataError, match=r"2 frames, and the table .* 1 lines"):
        open_dataset(tmp_path, energy="adsorption", reference_energies=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7,nan\n", "Line 1 .* has 'nan'"),
        ("7\n", "1 columns"),
        ("7,-1.0\nrandom7,-2.0\n", "Line 2 .* the sid '7' the reference energy -2.0 eV"),
    ],
)
def test_a_damaged_table(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_reference_energies(table(tmp_path, text))


def test_choices_that_are_not_complete(slabs: Path, tmp_path: Path) -> None:
    refs = table(tmp_path, "7,-1\n")
    with pytest.raises(ConfigError, match="energy is not set"):
        open_dataset(slabs, reference_energies=refs)
    with pytest.raises(FileAccessError, match="nowhere"):
        open_dataset(slabs, energy="total", reference_energies=tmp_path / "nowhere.txt")
    pickled = table(tmp_path, "x", "oc20_ref.pkl")
    with pytest.raises(DataError, match=r"no table .* JSON"):
        open_dataset(slabs, energy="total", reference_energies=pickled)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileAccessError, match="no table of reference energies"):
        open_dataset(slabs, energy="total", reference_energies=tmp_path / "empty")
    assert open_dataset(slabs, energy="total").fingerprint()["energies"] == {
        "kind": "total",
        "references": None,
    }
