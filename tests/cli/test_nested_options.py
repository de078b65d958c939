"""One entry deep inside a value can be changed on the command line without losing the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adatom.cli.arguments import run_function
from adatom.core.errors import ConfigError


@dataclass(kw_only=True)
class Source:
    """A file.

    Attributes:
        path: Of the file.
        index: Which part.
        units: Of labels.
    """

    path: str
    index: str | None = None
    units: dict[str, str] | None = None


def train(
    *,
    losses: dict[str, dict[str, Any]] | None = None,
    data: str | Source | list[str | Source] | None = None,
    lr: float = 1.0,
) -> tuple[Any, Any, float]:
    """Return what was given.

    Args:
        losses: By property.
        data: Sources.
        lr: A number.
    """
    return losses, data, lr


CONFIG = """
losses:
  energy: {name: mae, coefficient: 20.0}
  forces: {name: l2norm}
data:
- {path: a, units: {energy: eV}}
- {path: b}
"""


@pytest.fixture
def parsed(tmp_path: Path):
    """Return a function from options to what ``train`` gets, beside a configuration file."""
    file = tmp_path / "c.yaml"
    file.write_text(CONFIG)

    def run(*options: str) -> tuple[Any, Any, float]:
        result: tuple[Any, Any, float] = run_function(train, ["--config", str(file), *options], "t")
        return result

    return run


def test_one_entry_changes_and_the_others_stay(parsed) -> None:
    losses, data, lr = parsed(
        "--losses.energy.coefficient", "5", "--losses.forces.coefficient=1e-3",
        "--data.0.units.energy", "Hartree", "--data.1.index", "::2", "--lr", "2",
    )  # fmt: skip
    assert losses["energy"] == {"name": "mae", "coefficient": 5}
    assert losses["forces"] == {"name": "l2norm", "coefficient": 0.001}
    assert data[0] == Source(path="a", units={"energy": "Hartree"})
    assert data[1] == Source(path="b", index="::2")
    assert lr == 2.0


def test_new_entries_and_whole_ones(parsed) -> None:
    losses, _, _ = parsed("--losses.stress.name", "mae", "--losses.energy", "{name: mse}")
    assert losses["stress"] == {"name": "mae"}
    assert losses["energy"] == {"name": "mse"}


def test_nothing_to_merge_with() -> None:
    losses, data, _ = run_function(train, ["--losses.energy.name", "mae", "--data.path", "x"], "t")
    assert losses == {"energy": {"name": "mae"}}
    assert data == Source(path="x")


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--data.index", r"data is a list of 2 entries\. Expected .* from data\.0 to data\.1"),
        ("--data.7.index", r"data is a list of 2 entries"),
        ("--data.0.indx", r"Unknown key 'indx' of 'data\.0'; did you mean 'index'\?"),
        ("--losses.energy.name.x", r"losses\.energy\.name is 'mae'"),
        ("--lr.x", r"Unknown option '--lr\.x'; did you mean '--lr'\?"),
        ("--loses.energy.name", r"Unknown option '--loses\.energy\.name'"),
    ],
)
def test_what_leads_nowhere_is_refused(parsed, option: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parsed(option, "1")


def test_the_printed_configuration_has_the_change(
    parsed, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed("--losses.energy.coefficient", "5", "--print_config")
    printed = capsys.readouterr().out
    assert "coefficient: 5\n" in printed
    assert "name: mae" in printed
