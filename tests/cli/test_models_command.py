"""``adatom models`` shows and converts checkpoints."""

from __future__ import annotations

import pytest
import torch
from ase.build import molecule
from ase.io import write

from adatom.checkpoint.format import load_potential, save_potential
from adatom.checkpoint.names import EMBEDDED
from adatom.cli.main import main
from toy_backbone import toy_potential


@pytest.fixture
def official(shared):
    return str(shared / "reference" / "uma_tiny" / "tiny_uma.pt")


def test_info_of_an_own_checkpoint(tmp_path, capsys):
    potential = toy_potential(("gold", "silver"))
    potential.metadata.update(license="CC-BY-4.0", model_card="# Card\nTrained on nothing.")
    save_potential(potential, tmp_path / "toy.safetensors")
    assert main(["models", "info", str(tmp_path / "toy.safetensors")]) == 0
    shown = capsys.readouterr().out
    for text in ("ToyBackbone", "gold_energy", "CC-BY-4.0", "Trained on nothing", "4 angstrom"):
        assert text in shown


def test_info_of_an_official_checkpoint(official, capsys):
    assert main(["models", "info", official]) == 0
    shown = capsys.readouterr().out
    for text in ("eSCNMDBackbone", "omol_forces", "1.423", "never trained", "H to Es (99)"):
        assert text in shown


def test_convert_keeps_the_weights(official, tmp_path, capsys):
    output = tmp_path / "new" / "tiny.safetensors"
    assert main(["models", "convert", official, str(output)]) == 0
    assert "Wrote" in capsys.readouterr().err
    ours, theirs = load_potential(output).state_dict(), load_potential(official).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_list_names_the_embedded_potentials(capsys, monkeypatch, tmp_path):
    save_potential(toy_potential(), tmp_path / "toy.safetensors")
    monkeypatch.setitem(EMBEDDED, "toy", tmp_path / "toy.safetensors")
    monkeypatch.setitem(EMBEDDED, "gone", tmp_path / "gone.safetensors")
    assert main(["models", "list"]) == 0
    shown = capsys.readouterr().out
    assert "ToyBackbone" in shown
    assert "not part of this installation" in shown


def test_list_names_published_potentials_and_where_they_are(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ADATOM_CACHE_DIR", str(tmp_path))
    assert main(["models", "list"]) == 0
    shown = capsys.readouterr().out
    assert "uma-s-1p2p1-ft-r2scan" in shown
    assert "facebook/ODAC25" in shown
    assert "snapshots" not in shown
    folder = tmp_path / "hub" / "models--facebook--UMA"
    place = folder / "snapshots" / ("c" * 40) / "checkpoints"
    place.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("c" * 40)
    (place / "uma-m-1p1.pt").write_bytes(b"0" * 1_500_000)
    assert main(["models", "list"]) == 0
    assert "1.5 MB" in capsys.readouterr().out


def test_convert_for_one_composition(official, tmp_path, capsys):
    output = tmp_path / "water.safetensors"
    where = ["--task", "omol", "--charge", "0", "--spin", "1"]
    assert main(["models", "convert", official, str(output), "--merge", "H2O", *where]) == 0
    capsys.readouterr()
    merged = load_potential(output)
    assert merged.datasets == ["omol"]
    assert merged.backbone.init_args["num_experts"] == 0
    assert main(["models", "info", str(output)]) == 0
    shown = capsys.readouterr().out
    for text in ("Experts merged for", "H2O", "any number of formula units", "omol"):
        assert text in shown


def test_convert_for_the_composition_of_a_file(official, tmp_path):
    atoms = molecule("CH4")
    atoms.info |= {"charge": 1, "spin": 2}
    write(tmp_path / "ion.xyz", atoms)
    output = tmp_path / "ion.safetensors"
    arguments = ["--merge", str(tmp_path / "ion.xyz"), "--task", "omol", "--dtype", "float64"]
    assert main(["models", "convert", official, str(output), *arguments]) == 0
    merged = load_potential(output)
    domain = merged.domains["omol"]
    assert (str(domain.composition), domain.charges, domain.spins) == ("CH4", (1,), (2,))
    assert merged.dtype == torch.float64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "nowhere.safetensors"], "does not exist"),
        (["info", "defalt"], "did you mean 'default'"),
        (["convert", "OFFICIAL", "OUT", "--dtype", "float16"], "one of: float32, float64"),
        (["inof", "x"], "info"),
        (["info", "uma-s-1p3"], "did you mean 'uma-s-1p"),
        (["convert", "OFFICIAL", "OUT", "--merge", "H2O"], "--task with one of: oc20"),
        (["convert", "OFFICIAL", "OUT", "--merge", "H2O", "--task", "oml"], "did you mean 'omol'"),
        (["convert", "OFFICIAL", "OUT", "--merge", "Xy2", "--task", "omat"], "neither a formula"),
        (["convert", "OFFICIAL", "OUT", "--merge", "", "--task", "omat"], "formula"),
        (
            ["convert", "OFFICIAL", "OUT", "--merge", "OFFICIAL", "--task", "omat"],
            "not a structure",
        ),
        (["convert", "OFFICIAL", "OUT", "--merge", "H2O", "--task", "omol"], "spin 0"),
        (["convert", "OFFICIAL", "OUT", "--charge", "1"], "only with --merge"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(arguments, message, official, tmp_path, capsys):
    places = {"OFFICIAL": official, "OUT": str(tmp_path / "x.safetensors")}
    assert main(["models", *(places.get(a, a) for a in arguments)]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
