"""Checkpoints that are written while the training goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from adatom.core.errors import CheckpointError, ConfigError, FileAccessError
from adatom.training.checkpointing.directory import checkpoints_in, verify_checkpoint
from adatom.training.checkpointing.tensors import load_tensors, read_tensors
from adatom.training.checkpointing.writer import CheckpointWriter
from adatom.training.quiet import quiet_lightning
from adatom.training.strategy import unit_strategy


@pytest.fixture
def writer() -> Iterator[CheckpointWriter]:
    found = CheckpointWriter()
    with quiet_lightning():
        yield found
        found.abandon()
        found.close()


def save(writer: CheckpointWriter, folder: Path, step: int, *kept: int) -> dict[str, torch.Tensor]:
    tensors = {"a.w": torch.full((3, 2), float(step)), "a.step": torch.tensor(step)}
    writer.save(folder, step, tensors, of_all={"s.json": "1"}, of_rank="2", kept_steps=kept)
    return tensors


def test_what_changes_after_the_call_is_not_saved(writer: CheckpointWriter, tmp_path: Path) -> None:
    for tensor in save(writer, tmp_path, 4).values():
        tensor.zero_()
    writer.wait()
    path = tmp_path / "step_4"
    verify_checkpoint(path)
    found = read_tensors(path, "a.")
    assert found["w"].tolist() == [[4.0, 4.0]] * 3
    assert found["step"].item() == 4
    assert (path / "s.json").read_text() == "1"
    assert (path / "rank_0.json").read_text() == "2"


def test_the_newest_and_the_kept_ones_stay(writer: CheckpointWriter, tmp_path: Path) -> None:
    for step, kept in ((1, ()), (2, ()), (3, (2,)), (4, (2,))):
        save(writer, tmp_path, step, *kept)
        writer.wait()
    assert [path.name for path in checkpoints_in(tmp_path)] == ["step_2", "step_4"]


def test_a_place_that_cannot_be_written(writer: CheckpointWriter, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(FileAccessError, match=r"cannot be written: .*Free some space"):
        save(writer, tmp_path / "checkpoints", 1)


def test_a_save_that_fails_in_the_background_is_told(
    writer: CheckpointWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    save(writer, tmp_path, 1)
    writer.wait()
    monkeypatch.setattr("adatom.training.checkpointing.writer.complete", full)
    save(writer, tmp_path, 2)
    with pytest.raises(FileAccessError, match="no space left on device"):
        writer.wait()
    assert [path.name for path in checkpoints_in(tmp_path)] == ["step_1"]


def test_tensors_that_do_not_fit_are_named(writer: CheckpointWriter, tmp_path: Path) -> None:
    save(writer, tmp_path, 1)
    writer.wait()
    path = tmp_path / "step_1"
    with pytest.raises(CheckpointError, match=r"'a\.b' is missing .*shape \(1,\)"):
        load_tensors(path, {"a.b": torch.zeros(1)}, None)
    with pytest.raises(CheckpointError, match=r"'a\.w' has shape \(3, 2\)"):
        load_tensors(path, {"a.w": torch.zeros(2, 2)}, None)


def test_strategies_have_names() -> None:
    assert unit_strategy("fsdp").kind == "fsdp"
    with pytest.raises(ConfigError, match=r"trainer\.strategy is 'deepspeed'. .*auto, ddp, fsdp"):
        unit_strategy("deepspeed")
