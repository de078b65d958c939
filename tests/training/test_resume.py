"""A run that was stopped anywhere continues as if nothing had happened."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningCLI

from adatom.cli.s2ef import main
from adatom.core.errors import CheckpointError, ConfigError
from adatom.training.checkpointing.directory import newest_checkpoint
from adatom.training.checkpointing.tensors import read_tensors
from adatom.training.resume import random_state, set_random_state


class KilledError(Exception):
    """Stands for a process that is gone."""


class KillAt(Callback):
    """Raise at a step, in a hook.

    Args:
        step: Number of completed steps.
        hook: Name of the hook.
    """

    def __init__(self, step: int, hook: str) -> None:
        def strike(trainer: Trainer, module: LightningModule, *_: Any) -> None:
            del module
            if trainer.global_step >= step:
                raise KilledError

        setattr(self, hook, strike)


def run(config: Path, folder: Path, *more: str) -> None:
    main(["fit", "--config", str(config), "--run_dir", str(folder), *more])


def kill(config: Path, folder: Path, killer: KillAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a run that ends where ``killer`` strikes."""
    original = LightningCLI.instantiate_trainer

    def with_killer(self: Any, **kwargs: Any) -> Trainer:
        trainer = original(self, **kwargs)
        trainer.callbacks.insert(0, killer)
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(LightningCLI, "instantiate_trainer", with_killer)
        with pytest.raises(KilledError):
            run(config, folder)


@pytest.fixture(scope="module")
def reference(config: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "uninterrupted"
    run(config(), folder)
    return folder


@pytest.mark.parametrize(
    ("step", "hook"),
    [
        (1, "on_train_batch_end"),  # before the first checkpoint
        (3, "on_train_batch_end"),
        (4, "on_train_batch_start"),
        (6, "on_validation_start"),  # the epoch is over, its validation is not
        (6, "on_validation_batch_end"),
        (6, "on_train_epoch_end"),
        (6, "on_train_epoch_start"),
        (11, "on_before_optimizer_step"),
        (17, "on_train_batch_end"),
        (18, "on_train_end"),
    ],
)
def test_killed_run_gives_the_same_curve_and_weights(
    reference: Path,
    config: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    hook: str,
) -> None:
    folder = tmp_path / "killed"
    kill(config(), folder, KillAt(step, hook), monkeypatch)
    torch.manual_seed(99)  # the state of the process must not matter
    run(config(), folder)
    assert_same_run(folder, reference)


def assert_same_run(folder: Path, reference: Path) -> None:
    assert (folder / "metrics.csv").read_text() == (reference / "metrics.csv").read_text()
    for name in ("last.safetensors", "best.safetensors"):
        assert (folder / name).read_bytes() == (reference / name).read_bytes(), name
    ours, theirs = newest(folder), newest(reference)
    assert ours.name == theirs.name
    stored = [read_tensors(path, "unit_state.") for path in (ours, theirs)]
    assert stored[0].keys() == stored[1].keys()
    assert {name.split(".")[0] for name in stored[0]} == {"model", "ema", "optim"}
    assert all(torch.equal(stored[0][name], value) for name, value in stored[1].items())


def newest(folder: Path) -> Path:
    found = newest_checkpoint(folder / "checkpoints")
    assert found is not None
    return found


def test_the_curve_has_every_step_once(reference: Path) -> None:
    rows = [line.split(",") for line in (reference / "metrics.csv").read_text().splitlines()]
    steps = [int(row[0]) for row in rows[1:]]
    assert steps == sorted([*range(1, 19), 6, 12, 18])


def test_a_run_that_ends_inside_an_epoch_is_validated_there(
    config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eight = config(trainer="{max_epochs: -1, max_steps: 8, deterministic: true}")
    whole = tmp_path / "whole"
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    handlers = [signal.getsignal(number) for number in signals]
    run(eight, whole)
    assert handlers == [signal.getsignal(number) for number in signals]
    result = json.loads((whole / "result.json").read_text())
    assert result["reason"] == "all steps done"
    rows = [line.split(",") for line in (whole / "metrics.csv").read_text().splitlines()]
    score = rows[0].index("val/loss")
    assert [int(row[0]) for row in rows[1:] if row[score]] == [6, 8]
    # Killed in that last validation, it is done again.
    kill(eight, tmp_path / "killed", KillAt(8, "on_validation_batch_end"), monkeypatch)
    run(eight, tmp_path / "killed")
    assert_same_run(tmp_path / "killed", whole)


@pytest.mark.parametrize(("step", "hook"), [(4, "on_train_batch_end"), (5, "on_validation_start")])
def test_steps_of_several_batches_are_resumed(
    config: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    hook: str,
) -> None:
    # Five batches in an epoch are two steps of two and one of one.
    trainer = "{max_epochs: 3, deterministic: true, accumulate_grad_batches: 2}"
    several = config(**{"trainer": trainer, "data.batch_size": "4"})
    run(several, tmp_path / "whole")
    assert json.loads((tmp_path / "whole" / "result.json").read_text())["steps"] == 9
    kill(several, tmp_path / "killed", KillAt(step, hook), monkeypatch)
    run(several, tmp_path / "killed")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_before_there_is_something_to_save_a_signal_just_ends_the_run(
    config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Lightning's handler sends messages, which can make all processes wait for ever.
    found = []

    def probe(trainer: Trainer, module: LightningModule) -> None:
        del trainer, module
        found.append(signal.getsignal(signal.SIGTERM))
        raise KilledError

    killer = KillAt(0, "on_train_start")
    killer.on_train_start = probe  # type: ignore[method-assign]
    before = signal.getsignal(signal.SIGTERM)
    kill(config(), tmp_path / "run", killer, monkeypatch)
    assert found == [before]


def test_a_finished_run_says_so(
    reference: Path, config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (reference / "last.safetensors").read_bytes()
    run(config(), reference)
    assert "is finished" in capsys.readouterr().err
    assert (reference / "last.safetensors").read_bytes() == before


def test_another_configuration_in_the_same_directory(
    reference: Path, config: Callable[..., Path]
) -> None:
    with pytest.raises(ConfigError, match=r"model\.lr was 0\.01 and is now 0\.5"):
        run(config(), reference, "--model.lr", "0.5")


def test_the_directory_explains_itself(reference: Path) -> None:
    names = {path.name for path in reference.iterdir()}
    assert names >= {
        "config.yaml",
        "versions.json",
        "data.json",
        "metrics.csv",
        "checkpoints",
        "tensorboard",
        "best.safetensors",
        "last.safetensors",
        "result.json",
    }


def test_a_damaged_checkpoint_is_an_error(
    reference: Path, config: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(reference, folder)
    file = next(newest(folder).glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    (folder / "result.json").unlink()
    with pytest.raises(CheckpointError, match=r"step_18' is damaged: .*safetensors"):
        run(config(), folder)


def test_random_state_round_trip() -> None:
    state = random_state()
    first = torch.rand(3)
    set_random_state(state)
    assert torch.equal(torch.rand(3), first)
