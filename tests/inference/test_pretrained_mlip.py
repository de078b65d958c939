"""Predict units by published name, with their tables, or by path."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms
from huggingface_hub import constants

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.checkpoint.format import load_potential, save_potential
from adatom.checkpoint.references import read_references
from adatom.core.errors import (
    AdatomError,
    ConfigError,
    DataError,
    FileAccessError,
    UnknownNameError,
)
from adatom.inference.pretrained_mlip import (
    available_models,
    get_predict_unit,
    get_reference_energies,
    load_predict_unit,
    pretrained_checkpoint_path_from_name,
)
from local_hub import serve_hub

ATOMS = (
    b"omol_elem_refs:\n  1: {0: -13.5, 1: 0.0}\n  8: {0: -2041.25}\nomat_elem_refs: {29: -0.25}\n"
)
FORMATION = b"refs:\n  omat: {Cu: -3.75, O: -4.5}\n"
ATOM_TABLE = {"omol": {"1": {"0": -13.5, "1": 0.0}, "8": {"0": -2041.25}}, "omat": {"29": -0.25}}
WATER = Atoms("OH2", positions=[[0, 0, 0], [0, 0.76, 0.59], [0, -0.76, 0.59]])


@pytest.fixture
def official(shared):
    return shared / "reference" / "uma_tiny" / "tiny_uma.pt"


@pytest.fixture
def local_hub(monkeypatch, tmp_path, official):
    with serve_hub(monkeypatch, tmp_path) as state:
        state.files = {
            "checkpoints/uma-s-1p1.pt": official.read_bytes(),
            "references/iso_atom_elem_refs.yaml": ATOMS,
            "references/form_elem_refs.yaml": FORMATION,
        }
        yield state


def energy(unit):
    atoms = WATER.copy()
    atoms.info |= {"charge": 0, "spin": 1}
    return float(unit.predict(atoms, ["energy"], task_name="omol")["energy"][0])


def test_a_published_name_comes_with_its_tables(local_hub, official, monkeypatch, tmp_path):
    unit = get_predict_unit("uma-s-1p1", device="cpu")
    assert unit.potential.metadata["atom_refs"] == ATOM_TABLE
    assert unit.potential.metadata["form_elem_refs"] == {"omat": {"Cu": -3.75, "O": -4.5}}
    assert energy(unit) == energy(get_predict_unit(official, device="cpu"))
    # The second time nothing is asked for.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    potential = load_potential("uma-s-1p1")
    assert potential.metadata["atom_refs"] == ATOM_TABLE
    save_potential(potential, tmp_path / "mine.safetensors")
    assert load_potential(tmp_path / "mine.safetensors").metadata["atom_refs"] == ATOM_TABLE
    assert pretrained_checkpoint_path_from_name("uma-s-1p1").startswith(str(tmp_path))


def test_an_isolated_atom_is_answered_from_the_table(official):
    unit = load_predict_unit(official, atom_refs={"omol": {1: {0: -13.5}}})
    unit.potential.metadata["supports_single_atoms"] = False
    atom = Atoms("H")
    atom.info |= {"charge": 0, "spin": 2}
    assert float(unit.predict(atom, ["energy"], task_name="omol")["energy"][0]) == -13.5


def test_tables_can_be_files_or_mappings(official, tmp_path):
    (tmp_path / "atoms.yaml").write_bytes(ATOMS)
    unit = load_predict_unit(
        official, atom_refs=tmp_path / "atoms.yaml", form_elem_refs={"refs": {"omat": {"Cu": -1}}}
    )
    assert unit.potential.metadata["atom_refs"] == ATOM_TABLE
    assert unit.potential.metadata["form_elem_refs"] == {"omat": {"Cu": -1.0}}


def test_missing_tables_are_said_and_no_error(local_hub, capsys):
    del local_hub.files["references/form_elem_refs.yaml"]
    unit = get_predict_unit("uma-s-1p1", device="cpu")
    assert "form_elem_refs" not in unit.potential.metadata
    assert "Without form_elem_refs" in capsys.readouterr().err


def test_tables_by_name(local_hub, tmp_path):
    assert get_reference_energies("uma-s-1p1") == ATOM_TABLE
    found = get_reference_energies("uma-s-1p1", "form_elem_refs", cache_dir=tmp_path / "there")
    assert found == {"omat": {"Cu": -3.75, "O": -4.5}}
    assert (tmp_path / "there").is_dir()
    with pytest.raises(UnknownNameError, match="atom_refs"):
        get_reference_energies("uma-s-1p1", "bulk_refs")
    with pytest.raises(UnknownNameError, match="No form_elem_refs are published"):
        get_reference_energies("esen-sm-direct-all-omol", "form_elem_refs")


@pytest.mark.parametrize(
    "contents",
    [b"just text", b"omol: [a, b]", b"omol: {1: {0: {1: {2: 3}}}}", b"{unclosed", b"omol: 1\n- x"],
)
def test_a_wrong_table_is_named(tmp_path, contents):
    (tmp_path / "atoms.yaml").write_bytes(contents)
    match = "energies in eV" if contents.startswith(b"omol: [") else r"atoms\.yaml"
    with pytest.raises(DataError, match=match):
        read_references(tmp_path / "atoms.yaml")


def test_a_table_makes_no_objects(tmp_path):
    (tmp_path / "atoms.yaml").write_text("omol: !!python/object/apply:os.system ['touch x']")
    with pytest.raises(DataError, match="not a YAML file"):
        read_references(tmp_path / "atoms.yaml")


def test_lists_are_indexed_by_atomic_number():
    assert read_references({"odac_elem_refs": [0, -1.5]}) == {"odac": {"0": 0.0, "1": -1.5}}


def test_settings_overrides_and_device_reach_the_unit(official):
    unit = get_predict_unit(
        official, "high-precision", overrides={"backbone": {"max_neighbors": 30}}, device="cpu"
    )
    assert unit.dtype == torch.float64
    assert unit.potential.max_neighbors == 30
    assert str(unit.device) == "cpu"
    with pytest.raises(AdatomError, match="did you mean 'max_neighbors'"):
        get_predict_unit(official, overrides={"backbone": {"max_neighbor": 30}})


def test_mistakes_are_one_sentence(official):
    with pytest.raises(ConfigError, match="workers is 0"):
        get_predict_unit(official, workers=0)
    with pytest.raises(UnknownNameError, match="did you mean 'uma-s-1p1'"):
        get_predict_unit("uma-s-lp1")
    with pytest.raises(FileAccessError, match="does not exist"):
        get_predict_unit("nowhere.pt")
    with pytest.raises(UnknownNameError, match="turbo"):
        get_predict_unit(official, "trubo")


def test_the_embedded_potential_needs_no_hub():
    unit = get_predict_unit("default", device="cpu")
    assert "default" not in available_models
    assert MLIPCalculator(unit, "qm7x").predict_unit is unit
