"""The loss of one step: one mean over all its batches on all ranks, however unequal these are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Literal

import torch

from adatom.data.atomic_data import AtomicData
from adatom.tasks.losses import LossSum
from adatom.tasks.objective import compute_loss, filter_inference_only_tasks
from adatom.tasks.targets import labels_of
from adatom.tasks.task import Task
from adatom.training.reduction import sum_over_ranks, world_size

#: ``"task"``: each task's loss is a mean of its own. ``"property"``: the tasks of a property (one
#: for each dataset) share one mean, so that every structure weighs the same.
LossMean = Literal["task", "property"]


def loss_sums(
    tasks: Sequence[Task],
    predictions: Mapping[str, torch.Tensor],
    batch: AtomicData,
    mean: LossMean = "task",
) -> dict[str, LossSum]:
    """Return the sums of a batch by task or by property, with their graph.

    Args:
        tasks: All tasks; those that are inference-only are left out.
        predictions: By property, in network units.
        batch: With labels.
        mean: What shares one mean.
    """
    of_task = compute_loss(tasks, predictions, batch)
    if mean == "task":
        return of_task
    parts: dict[str, list[LossSum]] = {}
    for task in filter_inference_only_tasks(tasks):
        parts.setdefault(task.property, []).append(of_task[task.name])
    return {name: reduce(add, sums) for name, sums in parts.items()}


def loss_names(tasks: Sequence[Task], mean: LossMean) -> list[str]:
    """Return the names under which :func:`loss_sums` gives losses."""
    trained = filter_inference_only_tasks(tasks)
    return list(dict.fromkeys(t.name if mean == "task" else t.property for t in trained))


def count_sums(tasks: Sequence[Task], batch: AtomicData, mean: LossMean) -> dict[str, LossSum]:
    """Return what a batch will count, from its labels alone; the totals are meaningless."""
    nothing = {
        task.property: torch.zeros_like(labels_of(task, batch))
        for task in filter_inference_only_tasks(tasks)
    }
    return loss_sums(tasks, nothing, batch, mean)


def add_up(parts: Sequence[Mapping[str, LossSum]]) -> dict[str, LossSum]:
    """Return the sum of several batches with the same names, without graph."""
    bare = [detached(part) for part in parts]
    return {name: reduce(add, [part[name] for part in bare]) for name in bare[0]}


def over_ranks(sums: Mapping[str, LossSum]) -> dict[str, LossSum]:
    """Return the sums of all ranks, the same everywhere, without graph; one message."""
    flat = [t for s in sums.values() for t in (s.total, s.count, s.values)]
    reduced = iter(sum_over_ranks(flat))
    return {name: LossSum(next(reduced), next(reduced), next(reduced)) for name in sums}


def share_of_loss(sums: Mapping[str, LossSum], whole: Mapping[str, LossSum]) -> torch.Tensor:
    """Return what this rank contributes to the loss of the step, ``[]`` float64 with graph.

    It is scaled such that the average over the ranks, which DDP takes of gradients, is the loss.

    Args:
        sums: Of one batch of this rank.
        whole: Of all batches of the step on all ranks; only the counts are used.
    """
    shares = [s.total / whole[name].count.clamp(min=1.0) for name, s in sums.items()]
    return world_size() * torch.stack(shares).sum()


def connected(sums: Mapping[str, LossSum], energy: torch.Tensor) -> dict[str, LossSum]:
    """Return the same sums, such that the first one also depends on the energies.

    A loss of forces alone does not depend on the last bias of an energy head, but with several
    processes every parameter must have a gradient, be it zero.

    Args:
        sums: With their graph.
        energy: ``[B]`` predictions.
    """
    out = dict(sums)
    for name, part in list(sums.items())[:1]:
        out[name] = LossSum(part.total + 0.0 * energy.sum(), part.count, part.values)
    return out


def detached(sums: Mapping[str, LossSum]) -> dict[str, LossSum]:
    """Return the same sums without graph."""
    return {name: LossSum(s.total.detach(), s.count, s.values) for name, s in sums.items()}
