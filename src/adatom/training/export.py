"""Potentials to use, from a training that is going on and from its checkpoints."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from adatom.checkpoint.description import describe
from adatom.checkpoint.format import save_described
from adatom.core.errors import CheckpointError
from adatom.core.files import require_writable
from adatom.tasks.potential import Potential
from adatom.training.checkpointing.directory import (
    checkpoints_in,
    newest_checkpoint,
    verify_checkpoint,
)
from adatom.training.checkpointing.state import read_state
from adatom.training.checkpointing.tensors import EMA, read_tensors
from adatom.training.reduction import rank
from adatom.training.sharding import whole_weights


def save_trained(potential: Potential, path: Path, results: Mapping[str, float]) -> None:
    """Write a potential whose weights may be shared out; every process must call this.

    Args:
        potential: Such as the weight average of a unit.
        path: Written by the first process.
        results: Kept in the potential's metadata as ``training``; those that are not finite are
            left out.
    """
    potential.metadata["training"] = {k: v for k, v in results.items() if math.isfinite(v)}
    with torch.no_grad():
        weights = whole_weights(potential)
    if rank() == 0:
        save_described(describe(potential), weights, path)


def convert_train_checkpoint_to_inference_checkpoint(
    checkpoint: str | os.PathLike[str], out: str | os.PathLike[str]
) -> Path:
    """Write the weight average of a training checkpoint as a potential to use.

    Nothing of the training has to be there but the checkpoint, and no code from it is executed.

    Args:
        checkpoint: Directory of a checkpoint, of all checkpoints, or of the run; of several
            checkpoints the newest is taken.
        out: The ``.safetensors`` file.

    Returns:
        The checkpoint that was converted.

    Raises:
        CheckpointError: If there is none, or it is damaged.
        FileAccessError: If a file cannot be read or written.
    """
    require_writable(out)
    path = find_checkpoint(checkpoint)
    verify_checkpoint(path)
    description = read_state(path)["potential"]
    save_described(description, read_tensors(path, EMA), out)
    return path


def find_checkpoint(place: str | os.PathLike[str]) -> Path:
    """Return a training checkpoint: the given directory, or the newest one in it.

    Raises:
        CheckpointError: If there is none.
    """
    path = Path(place).expanduser()
    for folder in (path, path / "checkpoints"):
        if checkpoints_in(folder) and (newest := newest_checkpoint(folder)) is not None:
            return newest
    if not path.is_dir():
        raise CheckpointError(
            f"{str(place)!r} is not a folder",
            expected="a training checkpoint such as runs/name/checkpoints/step_1000",
        )
    return path
