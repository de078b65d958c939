"""KIM's verification checks on portable models, through the command line."""

from __future__ import annotations

import json

import pytest
from kim_toys import GraphToy, description

from adatom.cli import main as cli
from adatom.cli.kim_verify import kim_subject
from adatom.deploy.kim.calculator import KimCalculator
from adatom.deploy.kim.kim_model import KimModel
from adatom.evaluate.verification import memory_use, verify


@pytest.fixture(scope="module")
def graph(install):
    model = GraphToy()
    return install(model, description(model, name="VerifiedGraph__MO_900000000000_000"))


@pytest.fixture
def patience(monkeypatch):
    """Make no more evaluations than needed."""
    monkeypatch.setattr(memory_use, "_PATIENCE", 0.0)


def test_a_portable_model_passes_all_checks(graph, patience, tmp_path, capsys):
    path = tmp_path / "found.json"
    assert cli.main(["kim", "verify", graph, "--json", str(path)]) == cli.OK
    told = capsys.readouterr().out
    assert f"Verification of {graph}, double precision" in told
    found = {each["check"]: each for each in json.loads(path.read_text())["checks"]}
    assert {each["verdict"] for each in found.values()} == {"passed"}
    assert found["forces"]["grade"] == "A"
    assert found["forces"]["value"] < 1e-9
    assert found["threads"]["value"] == 0
    assert found["units"]["value"] < 1e-6
    for name in ("periodicity", "permutation", "objectivity", "inversion"):
        assert found[name]["value"] < 1e-12


def test_forces_with_the_wrong_sign_end_in_an_exit_code(graph, monkeypatch, capsys):
    right = KimCalculator.calculate

    def wrong(self, *arguments, **named):
        right(self, *arguments, **named)
        self.results["forces"] = -self.results["forces"]

    monkeypatch.setattr(KimCalculator, "calculate", wrong)
    assert cli.main(["kim", "verify", graph, "--checks", "[forces,permutation]"]) == 1
    assert "Failed: forces." in capsys.readouterr().err


def test_wrong_units_are_noticed(graph, monkeypatch):
    opened = KimModel._create

    def ignores_the_energy(self, length, energy):
        del energy
        return opened(self, length, "eV")

    with KimModel(graph) as model:
        subject = kim_subject(model)
        assert verify(subject, ["units"]).failed == []
        monkeypatch.setattr(KimModel, "_create", ignores_the_energy)
        assert verify(subject, ["units"]).failed == ["units"]


def test_unknown_models_are_one_sentence(kim_driver, capsys):
    assert cli.main(["kim", "verify", "Nothing__MO_000000000000_000"]) == cli.WRONG_INPUT
    assert "cannot open the model" in capsys.readouterr().err
