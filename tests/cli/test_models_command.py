"""``adatom models`` shows and converts checkpoints."""

from __future__ import annotations

import pytest
import torch

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "nowhere.safetensors"], "does not exist"),
        (["info", "defalt"], "did you mean 'default'"),
        (["convert", "OFFICIAL", "OUT", "--dtype", "float16"], "one of: float32, float64"),
        (["inof", "x"], "info"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(arguments, message, official, tmp_path, capsys):
    places = {"OFFICIAL": official, "OUT": str(tmp_path / "x.safetensors")}
    assert main(["models", *(places.get(a, a) for a in arguments)]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
