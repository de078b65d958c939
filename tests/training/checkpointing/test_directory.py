"""Which checkpoints are complete, and what a killed save leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adatom.core.errors import CheckpointError, FileAccessError
from adatom.training.checkpointing.directory import (
    checkpoints_in,
    complete,
    newest_checkpoint,
    part_name,
    remove_checkpoint,
    remove_partial,
    verify_checkpoint,
)


def written(folder: Path, step: int) -> Path:
    part = folder / part_name(step)
    part.mkdir(parents=True)
    (part / "a.bin").write_bytes(bytes(range(200)))
    (part / "b.json").write_text("{}")
    return part


def test_newest_is_by_number_not_by_name(tmp_path: Path) -> None:
    for step in (9, 10, 0):
        complete(written(tmp_path, step), step)
    again = complete(written(tmp_path, 10), 10)
    names = [path.name for path in checkpoints_in(tmp_path)]
    assert names == ["step_0", "step_9", "step_10", "step_10_1"]
    assert newest_checkpoint(tmp_path) == again
    assert newest_checkpoint(tmp_path / "missing") is None


def test_what_was_not_completed_is_not_seen_and_removed(tmp_path: Path) -> None:
    first = complete(written(tmp_path, 1), 1)
    written(tmp_path, 2)
    assert checkpoints_in(tmp_path) == [first]
    remove_partial(tmp_path)
    assert list(tmp_path.iterdir()) == [first]
    remove_checkpoint(first)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["shorter", "altered", "missing", "unlisted"])
def test_damage_is_found(tmp_path: Path, damage: str) -> None:
    path = complete(written(tmp_path, 1), 1)
    verify_checkpoint(path)
    file = path / "a.bin"
    if damage == "shorter":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "altered":
        file.write_bytes(b"x" + file.read_bytes()[1:])
    elif damage == "missing":
        file.unlink()
    else:
        (path / "complete.json").unlink()
    with pytest.raises((CheckpointError, FileAccessError), match=r"a\.bin|no complete\.json"):
        verify_checkpoint(path)


def test_each_process_reads_its_share(tmp_path: Path) -> None:
    path = complete(written(tmp_path, 1), 1)
    (path / "a.bin").write_bytes(b"")
    verify_checkpoint(path, rank=1, world=2)
    with pytest.raises(FileAccessError, match="empty"):
        verify_checkpoint(path, rank=0, world=2)


def test_a_list_may_not_name_files_elsewhere(tmp_path: Path) -> None:
    path = complete(written(tmp_path, 1), 1)
    facts = {"bytes": 0, "crc32": "00000000"}
    (path / "complete.json").write_text(json.dumps({"files": {"../secret": facts}}))
    with pytest.raises(CheckpointError, match="names of files in it"):
        verify_checkpoint(path)


def test_a_run_of_an_older_adatom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="older adatom"):
        newest_checkpoint(tmp_path)
