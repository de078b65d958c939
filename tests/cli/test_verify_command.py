"""``adatom verify``: the table, the file and the exit code."""

from __future__ import annotations

import json

import pytest

from adatom.cli import main as cli
from adatom.evaluate.verification import registry
from adatom.evaluate.verification.records import Finding
from adatom.evaluate.verification.registry import Check


def test_checks_of_the_embedded_potential_pass(tmp_path, capsys):
    path = tmp_path / "found.json"
    command = ["verify", "default", "--task", "zuo2020", "--json", str(path)]
    assert cli.main([*command, "--checks", "[permutation,objectivity,threads]"]) == cli.OK
    told = capsys.readouterr().out
    assert "default (zuo2020), double precision" in told
    found = json.loads(path.read_text())
    assert found["failed"] == []
    assert {"Si", "Mo", "Cu"} <= set(found["species"])
    assert [each["verdict"] for each in found["checks"]] == ["passed"] * 3
    assert 0 < found["checks"][0]["value"] < 1e-12


def test_single_precision_is_seen_and_has_its_limits(capsys, monkeypatch):
    command = ["verify", "default", "--task", "zuo2020", "--checks", "[permutation]"]
    assert cli.main([*command, "--dtype", "float32"]) == cli.OK
    told = capsys.readouterr().out
    assert "single precision" in told
    assert "0.001" in told


@pytest.mark.parametrize(
    ("category", "code"), [("mandatory", 1), ("consistency", 1), ("informational", 0)]
)
def test_exit_code_says_that_a_check_failed(category, code, monkeypatch, capsys):
    failing = Check(category, lambda *_: Finding(passed=False, detail="as it should"))
    monkeypatch.setitem(registry.CHECKS, "forces", failing)
    command = ["verify", "default", "--task", "zuo2020", "--checks", "[forces]"]
    assert cli.main(command) == code
    told = capsys.readouterr()
    assert "FAILED" in told.out
    assert "as it should" in told.out
    assert ("Failed: forces." in told.err) == bool(code)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["default"], "several tasks and none was chosen"),
        (["default", "--task", "zuo2020", "--checks", "[forcs]"], "did you mean 'forces'"),
        (["nothing.safetensors"], "nothing.safetensors"),
        (["default", "--task", "zuo2020", "--json", "/dev/null/a.json"], "/dev/null"),
    ],
)
def test_mistakes_are_one_sentence(arguments, message, capsys):
    assert cli.main(["verify", *arguments]) == cli.WRONG_INPUT
    assert message in capsys.readouterr().err
