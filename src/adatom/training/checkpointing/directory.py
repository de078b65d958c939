"""Where training checkpoints lie, and which of them are whole.

``checkpoints/step_<n>/`` is one checkpoint (``step_<n>_1`` is a later one of the same step). It is
written as ``.step_<n>.part/`` and renamed when every process is done, every file is on the disk,
and ``complete.json`` lists all files with their sizes and checksums. So a directory under its final
name is complete, and a killed save leaves the earlier checkpoints as they were.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adatom.core.errors import CheckpointError
from adatom.core.files import require_readable

#: Lists all other files of a checkpoint.
COMPLETE = "complete.json"
#: The configuration that continues from the checkpoint.
RESUME = "resume.yaml"
#: The part of the state that is not tensors of parameters.
STATE = "state.json"

_NAME = re.compile(r"step_(\d+)(?:_(\d+))?")
_PART = re.compile(r"\.step_[\d_]+\.part")
_PIECE = 1 << 22


def part_name(step: int) -> str:
    """Return the name of the directory of a step while it is written."""
    return f".step_{step}.part"


def step_of(path: Path) -> int:
    """Return the step of a checkpoint from the name of its directory.

    Raises:
        CheckpointError: If that is no name of a checkpoint.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"{path.name!r} is no name of a checkpoint", expected="step_<number>")
    return int(match[1])


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the complete checkpoints of a run, the oldest first.

    Args:
        folder: ``checkpoints`` in the run directory; may be missing.
    """
    if not folder.is_dir():
        return []
    found = [(m, path) for path in folder.iterdir() if (m := _NAME.fullmatch(path.name))]
    return [path for *_, path in sorted((int(m[1]), int(m[2] or 0), path) for m, path in found)]


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint of a run, or None.

    Raises:
        CheckpointError: If an older adatom has begun the run.
    """
    found = checkpoints_in(folder)
    if not found and (folder / "last.ckpt").exists():
        raise CheckpointError(
            f"The run with {str(folder / 'last.ckpt')!r} was begun with an older adatom",
            fix="Continue it with that version, or set another run_dir for a new run.",
        )
    return found[-1] if found else None


def complete(part: Path, step: int) -> Path:
    """Mark a checkpoint that is written as complete and give it its name.

    Args:
        part: Where it was written.
        step: Of the training.

    Returns:
        Where it is now.
    """
    listed = {path.name: _facts(path) for path in sorted(part.iterdir())}
    mark = part / COMPLETE
    mark.write_text(json.dumps({"files": listed}, indent=1) + "\n")
    for path in (*part.iterdir(), part):
        _flush(path)
    final, again = part.with_name(f"step_{step}"), 0
    # Never replaced: between two renames there would be a moment without any checkpoint.
    while final.exists():
        again += 1
        final = part.with_name(f"step_{step}_{again}")
    part.rename(final)
    _flush(final.parent)
    return final


def remove_partial(folder: Path) -> None:
    """Remove what killed saves have left."""
    if folder.is_dir():
        for path in folder.iterdir():
            if _PART.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, such that it is never seen as complete without all of its files."""
    gone = path.with_name(f".{path.name}.part")
    shutil.rmtree(gone, ignore_errors=True)
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def verify_checkpoint(path: Path, rank: int = 0, world: int = 1) -> None:
    """Compare the files of a checkpoint with what is listed about them.

    Args:
        path: Of the directory.
        rank: Number of this process.
        world: Number of processes; each reads its share of the files.

    Raises:
        CheckpointError: If a file is missing, too short or altered.
        FileAccessError: If a file cannot be read.
    """
    if not (path / COMPLETE).is_file():
        raise CheckpointError(
            f"{str(path)!r} is not a training checkpoint: it has no {COMPLETE}",
            expected="a directory such as checkpoints/step_1000 of a run",
        )
    for i, (name, expected) in enumerate(_listed(path)):
        if i % world != rank:
            continue
        found = _facts(require_readable(path / name))
        if found != expected:
            raise CheckpointError(
                f"The training checkpoint {str(path)!r} is damaged: {name} has {found['bytes']} "
                f"bytes with CRC-32 {found['crc32']}",
                expected=f"{expected['bytes']} bytes with {expected['crc32']}",
                fix="Remove that directory to continue from an older checkpoint.",
            )


def _listed(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    mark = require_readable(path / COMPLETE)
    try:
        files = json.loads(mark.read_text())["files"]
        pairs = [(str(name), {key: facts[key] for key in _FACTS}) for name, facts in files.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{str(mark)!r} is damaged: {error}",
            fix="Remove that directory to continue from an older checkpoint.",
        ) from error
    for name, facts in pairs:
        if Path(name).name != name:
            raise CheckpointError(f"{str(mark)!r} lists {name!r}", expected="names of files in it")
        yield name, facts


_FACTS = ("bytes", "crc32")


def _facts(path: Path) -> dict[str, Any]:
    checksum = 0
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            checksum = zlib.crc32(piece, checksum)
    return {"bytes": path.stat().st_size, "crc32": f"{checksum:08x}"}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
