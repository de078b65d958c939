"""Writes checkpoints while the training goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_saver import async_save

from adatom.core.errors import AdatomError, FileAccessError
from adatom.training.checkpointing.directory import (
    checkpoints_in,
    complete,
    part_name,
    remove_checkpoint,
    step_of,
)
from adatom.training.reduction import rank, world_size


class CheckpointWriter:
    """Copies the state to CPU memory, then writes it in a thread of its own, one at a time.

    All processes must make and use it in the same order. Its messages between them have process
    groups of their own, so that they never mix with those of the training.
    """

    def __init__(self) -> None:
        self._group = _cpu_group()
        self._background_group = _cpu_group()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[Path | None] | None = None

    @property
    def group(self) -> distributed.ProcessGroup | None:
        """Of all processes, for messages in the main thread; None if there is one process."""
        return self._group

    def save(
        self,
        folder: Path,
        step: int,
        tensors: Mapping[str, torch.Tensor],
        *,
        of_all: Mapping[str, str],
        of_rank: str,
        kept_steps: Collection[int] = (),
    ) -> None:
        """Begin to write a checkpoint; an earlier one is finished first.

        Args:
            folder: Where the checkpoints of the run are.
            step: Of the training.
            tensors: By name, whole or shared out; copied before this returns.
            of_all: File names to texts, written once.
            of_rank: Text of this process alone, written as ``rank_<n>.json``.
            kept_steps: Whose checkpoints are not removed when this one is complete.

        Raises:
            FileAccessError: On every process, if this or the earlier one cannot be written.
        """
        self.wait()
        part = folder / part_name(step)
        problem = None
        try:
            if rank() == 0:
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(parents=True)
                for name, text in of_all.items():
                    (part / name).write_text(text, encoding="utf-8")
        except OSError as error:
            problem = error
        self._agree(problem)
        try:
            (part / f"rank_{rank()}.json").write_text(of_rank, encoding="utf-8")
        except OSError as error:
            problem = error
        self._agree(problem)
        written: Any = async_save(
            dict[str, Any](tensors),
            storage_writer=HuggingFaceStorageWriter(str(part), save_distributed=True),
            process_group=self._background_group,
            no_dist=self._background_group is None,
        )
        self._pending = self._thread.submit(_finish, written, part, step, frozenset(kept_steps))

    def wait(self) -> None:
        """Wait until the checkpoint that was begun is complete; every process must call this.

        Raises:
            FileAccessError: On every process, if it could not be written.
        """
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        problem = pending.exception()
        if problem is not None and not isinstance(problem, Exception):
            raise problem
        self._agree(problem)

    def abandon(self) -> None:
        """Wait for this process's part after an error, whatever becomes of it."""
        if self._pending is not None:
            self._pending.exception()
            self._pending = None

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    def _agree(self, problem: Exception | None) -> None:
        """Raise on every process if one has a problem."""
        found = torch.tensor([float(problem is not None)])
        if self._group is not None:
            distributed.all_reduce(found, group=self._group)
        if not found.item():
            return
        if isinstance(problem, AdatomError):
            raise problem
        reason = "another process could not write" if problem is None else _reason(problem)
        raise FileAccessError(
            f"The checkpoint cannot be written: {reason}",
            fix="Free some space or check the permissions of the run directory, then start again.",
        ) from problem


def _finish(written: Future[Any], part: Path, step: int, kept_steps: frozenset[int]) -> Path | None:
    written.result()
    if rank() != 0:
        return None
    # The writer gathers what every process has done, so that all files are there now.
    final = complete(part, step)
    for old in checkpoints_in(part.parent):
        if old != final and (step_of(old) not in kept_steps or step_of(old) == step):
            remove_checkpoint(old)
    return final


def _reason(problem: BaseException) -> str:
    if isinstance(problem, OSError) and problem.errno is not None:
        return os.strerror(problem.errno).lower()
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[-1] if lines else type(problem).__name__


def _cpu_group() -> distributed.ProcessGroup | None:
    return distributed.new_group(backend="gloo") if world_size() > 1 else None
