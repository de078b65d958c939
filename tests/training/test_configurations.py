"""The shipped configurations run, name every option, and refuse what is not one."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from adatom.cli.main import main as adatom
from adatom.cli.s2ef import main as s2ef

#: What makes a run of a configuration short; results are not looked at.
SHORT = [
    "--trainer.max_steps", "2", "--trainer.limit_val_batches", "1", "--report", "false",
    "--trainer.val_check_interval", "2", "--trainer.check_val_every_n_epoch", "null",
    "--data.check", "false",
]  # fmt: skip
SMALL_NETWORK = [
    f"--model.backbone.{name}={value}"
    for name, value in {
        "sphere_channels": 8, "hidden_channels": 8, "edge_channels": 8, "num_layers": 1, "lmax": 2,
        "max_neighbors": 12,
    }.items()
]  # fmt: skip
OVERRIDES = {
    "minimal": ["--data.train", "examples/data/silicon_train.extxyz"],
    "realistic": [
        *SMALL_NETWORK, "--data.batch_size", "2", "--data.train.0.index", "::40",
        "--data.train.1.index", "::40",
    ],
    "everything": [],
}  # fmt: skip


@pytest.fixture
def local(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes a copy of a configuration that finds its data."""
    monkeypatch.chdir(repository)

    def copy(name: str, shared: Path | None = None) -> Path:
        text = (repository / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
        path = tmp_path / f"{name}.yaml"
        path.write_text(text.replace("../shared", str(shared)), encoding="utf-8")
        return path

    return copy


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as stream:
        return [float(row["train/loss"]) for row in csv.DictReader(stream) if row["train/loss"]]


def keys(tree: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of everything that has no parts."""
    if isinstance(tree, dict) and tree:
        for name, value in tree.items():
            yield from keys(value, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    with pytest.raises(SystemExit) as ending:
        s2ef(["fit", *arguments, "--print_config"])
    assert ending.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("name", sorted(OVERRIDES))
def test_it_runs(local: Any, shared: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    options = ["--config", str(local(name, shared)), "--run_dir", str(folder)]
    short = [*SHORT, "--logging.every_n_steps", "1", *OVERRIDES[name]]
    assert adatom(["s2ef", "fit", *options, *short]) == 0
    assert len(losses(folder)) == 2
    result = json.loads((folder / "result.json").read_text())
    assert result["steps"] == 2
    assert result["best"]["val/loss"] > 0.0


def test_everything_names_every_option(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = repository / "configs" / "everything.yaml"
    text = path.read_text(encoding="utf-8")
    written = yaml.safe_load(text)
    known = printed(capsys, "--config", str(path))
    # What is not one of a fixed set of names stands for itself.
    for tree in (written, known):
        for free in ("losses", "metrics"):
            tree["model"][free] = None
        for part in ("train", "test", "predict"):
            tree["data"][part] = tree["data"][part][:1] if part == "train" else None
        tree["data"]["train"] = tree["data"]["train"][0]
        tree["data"]["mixture"] = None
    assert set(keys(written)) == set(keys(known))


def test_everything_has_a_comment_for_each_option(repository: Path) -> None:
    lines = (repository / "configs" / "everything.yaml").read_text(encoding="utf-8").splitlines()

    explained_above = {"class_path", "forces", "stress"}
    explained_above |= {"energy", "model", "data", "trainer", "checkpoint", "logging", "init_args"}
    for before, line in pairwise(lines):
        name, colon, _ = line.strip().removeprefix("- ").partition(":")
        is_option = bool(colon) and not line.strip().startswith("#") and name.isidentifier()
        if is_option and name not in explained_above:
            assert before.strip().startswith("#"), f"{name} has no comment"


def test_defaults_of_everything_are_the_defaults(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A value differs from the default only where its comment says so."""
    path = repository / "configs" / "everything.yaml"
    minimal = {"class_path": "eSCNMDBackbone"}
    known = printed(capsys, "--model.backbone", json.dumps(minimal))
    lines = path.read_text(encoding="utf-8").splitlines()
    sections: list[str] = []
    compared = 0
    for number, line in enumerate(lines):
        name, colon, value = line.strip().partition(":")
        depth = (len(line) - len(line.lstrip())) // 2
        if not colon or not name.isidentifier() or line.strip().startswith(("#", "-")):
            continue
        sections = [*sections[:depth], name]
        comment = ""
        above = number - 1
        while lines[above].strip().startswith("#"):
            comment = lines[above] + comment
            above -= 1
        default: Any = known
        for section in sections:
            default = default.get(section, {}) if isinstance(default, dict) else {}
        if (
            name != "class_path"
            and value.strip()
            and not isinstance(default, dict)
            and "efault" not in comment
        ):
            assert yaml.safe_load(value) == default, f"{'.'.join(sections)} is not the default"
            compared += 1
    assert compared > 60


@pytest.mark.parametrize(
    "name", ["uma_small", "uma_small_direct", "default_potential", "descriptor_network"]
)
def test_the_others_are_valid(
    repository: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = printed(capsys, "--config", str(repository / "configs" / f"{name}.yaml"))
    assert config["data"]["train"]


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("model.backbone", "{class_path: trap.Trap, init_args: {path: sprung}}",
         "not correspond to a subclass of Backbone"),
        ("model.head", "{class_path: trap.Trap, init_args: {path: sprung}}",
         "not correspond to a subclass of Head"),
        ("model.head", "{class_path: eSCNMDBackbone}", "eSCNMDBackbone cannot be the head"),
        ("trainer.callbacks", "{class_path: trap.Trap, init_args: {path: sprung}}",
         "not correspond to a subclass of Callback"),
        ("trainer.logger", "{class_path: trap.Trap}", "not correspond to a subclass of Logger"),
        ("model.losses.energy", "{name: mae, coefficient: {class_path: trap.Trap}}",
         "coefficient of the loss of energy is"),
        ("model.backbone", "{class_path: subprocess.Popen}", "Importing 'subprocess.Popen' is not"),
        ("trainer.fast_dev_run", "true", "Set preflight.only, or trainer.max_steps"),
        ("trainer.precision", "bf16-mixed", "set model.bf16: true"),
        ("trainer.max_epoch", "3", "did you mean 'trainer.max_epochs'?"),
        ("preflight.max_energy_eror", "3", "did you mean 'preflight.max_energy_error'?"),
        ("wandb", "{projct: x}", "did you mean"),
        ("model.start_from", "{checkpoint: x, max_neighbors: 3}", "without start_from.conserving"),
    ],
)  # fmt: skip
def test_what_is_refused(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    tree: dict[str, Any] = yaml.safe_load(value)
    for part in reversed(option.split(".")):
        tree = {part: tree}
    extra = tmp_path / "extra.yaml"
    extra.write_text(yaml.safe_dump(tree))
    base = tmp_path / "base.yaml"
    text = (repository / "configs" / "minimal.yaml").read_text(encoding="utf-8")
    base.write_text("data: {train: x.xyz}" if option == "model.start_from" else text)
    files = ["--config", str(base), "--config", str(extra)]
    assert adatom(["s2ef", "fit", *files, "--run_dir", str(tmp_path / "run")]) == 2
    complaint = capsys.readouterr().err
    assert sentence in complaint
    assert "Traceback" not in complaint
    assert not (tmp_path / "sprung").exists()
