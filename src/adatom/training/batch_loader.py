"""Batches of the epoch that a training is in, from the step it is at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import torch

from adatom.data.atomic_data import AtomicData, collate
from adatom.training.batching import BatchPlan, Rows
from adatom.training.worker_batches import WorkerBatches

_ANY: Rows = np.zeros(1, dtype=np.int64)


class BatchLoader:
    """Yields the batches of one process.

    It has no length on purpose: the number of batches changes from epoch to epoch.

    Args:
        systems: Structures with edges.
        plan: Which of them form which batch.
        position: Returns (epoch, batches of it that are done); asked when an iteration begins.
            None counts the iterations.
        rank: Number of this process.
        world: Number of processes.
        workers: Other processes that make the batches; 0 makes them in this one. Batches and
            their order are the same.
    """

    def __init__(
        self,
        systems: Sequence[AtomicData],
        plan: BatchPlan,
        position: Callable[[], tuple[int, int]] | None = None,
        *,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
    ) -> None:
        self._workers = WorkerBatches(systems, workers) if workers else None
        self._systems = systems
        self._plan = plan
        self._position = position
        self._rank, self._world = rank, world
        self._next = (0, 0)
        self._is_set = False

    def set_sampler_state(self, epoch: int, step: int) -> None:
        """Let the next iteration begin at batch ``step`` of ``epoch``, whatever ``position`` says.

        The iteration after that begins the epoch that follows.
        """
        self._next, self._is_set = (epoch, step), True

    def __iter__(self) -> Iterator[AtomicData]:
        """Yield batches of :class:`AtomicData` with edges."""
        if self._position is not None and not self._is_set:
            self._next = self._position()
        (epoch, done), self._is_set = self._next, False
        self._next = (epoch + 1, 0)
        planned = self._plan.batches(epoch, self._rank, self._world)[done:]
        # Where there is nothing to do, any structure will do.
        filled = [rows if len(rows) else _ANY for rows in planned]
        for rows, batch in zip(planned, self._batches(filled), strict=True):
            yield batch if len(rows) else without_labels(batch)

    def _batches(self, planned: list[Rows]) -> Iterator[AtomicData]:
        if self._workers is not None:
            yield from self._workers.batches(planned)
            return
        for rows in planned:
            yield collate([self._systems[int(row)] for row in rows])


class StepLoader:
    """Yields all batches of each step at once, where a step of the optimizer has several.

    Args:
        batches: Of one process.
        size: Batches of a step; an epoch's last step may have fewer.
    """

    def __init__(self, batches: BatchLoader, size: int) -> None:
        self._batches = batches
        self._size = size

    def set_sampler_state(self, epoch: int, step: int) -> None:
        """Let the next iteration begin at ``step`` of ``epoch``; see :class:`BatchLoader`."""
        self._batches.set_sampler_state(epoch, step * self._size)

    def __iter__(self) -> Iterator[list[AtomicData]]:
        """Yield lists of :class:`AtomicData` with edges."""
        batches = iter(self._batches)
        while step := list(islice(batches, self._size)):
            yield step


def without_labels(system: AtomicData) -> AtomicData:
    """Return a copy whose labels are all NaN: it takes part in a step and counts nothing."""
    labels = {name: torch.full_like(value, torch.nan) for name, value in system.labels.items()}
    return replace(system, labels=labels)
