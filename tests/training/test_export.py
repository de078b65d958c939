"""From a training checkpoint to a potential to use, with one function or one command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from adatom.checkpoint.format import load_potential, read_description
from adatom.cli.main import main as adatom
from adatom.cli.s2ef import main
from adatom.core.errors import CheckpointError
from adatom.training.checkpointing.state import read_state
from adatom.training.export import convert_train_checkpoint_to_inference_checkpoint
from toy_backbone import ToyBackbone, ToyHead


@pytest.fixture(scope="module")
def run(config: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "short"
    path = config(trainer="{max_epochs: 1, deterministic: true}")
    main(["fit", "--config", str(path), "--run_dir", str(folder)])
    return folder


def test_the_last_checkpoint_gives_the_last_potential(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "converted.safetensors"
    found = convert_train_checkpoint_to_inference_checkpoint(run, out)
    assert found == run / "checkpoints" / "step_6"
    described = [read_description(path) for path in (out, run / "last.safetensors")]
    for description in described:
        # Which step of the training it is; the end writes it after the checkpoint.
        description["metadata"].pop("training", None)
    assert described[0] == described[1]
    ours, theirs = (
        load_potential(path, allow=[ToyBackbone, ToyHead]).state_dict()
        for path in (out, run / "last.safetensors")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "converted.safetensors"
    assert adatom(["models", "convert", str(run / "checkpoints" / "step_6"), str(out)]) == 0
    assert out.is_file()
    assert "step_6" in capsys.readouterr().err
    assert adatom(["models", "convert", str(tmp_path), str(out)]) == 2
    assert "no complete.json" in capsys.readouterr().err
    assert adatom(["models", "convert", str(run), str(out), "--dtype", "float64"]) == 2


def test_what_a_checkpoint_holds(run: Path) -> None:
    path = run / "checkpoints" / "step_6"
    state = read_state(path)
    assert set(state["unit_state"]) == {"progress", "ema", "optim", "scheduler"}
    assert state["unit_state"]["progress"]["global_step"] == 6
    assert state["config"] == yaml.safe_load((run / "config.yaml").read_text())
    resume = yaml.safe_load((path / "resume.yaml").read_text())
    assert resume.pop("run_dir") == str(run)
    assert resume == state["config"]
    # No file of a checkpoint can execute anything: numbers, and text.
    kinds = {file.suffix for file in path.iterdir()}
    assert kinds == {".json", ".yaml", ".safetensors"}


def test_resume_yaml_continues_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adatom(["s2ef", "fit", "--config", str(run / "checkpoints/step_6/resume.yaml")]) == 0
    assert f"The run in {str(run)!r} is finished" in capsys.readouterr().err


def test_another_format_version(run: Path, tmp_path: Path) -> None:
    text = (run / "checkpoints/step_6/state.json").read_text()
    (tmp_path / "state.json").write_text(text.replace('"format_version": 1', '"format_version": 9'))
    with pytest.raises(CheckpointError, match="format version 9"):
        read_state(tmp_path)
