"""What a training minimizes and what an evaluation measures, as pure functions.

A batch may mix datasets, each with its own tasks and its own subset of labels. ``predictions`` are
those of :meth:`adatom.tasks.potential.Potential.forward`: by property, in network units. Everything
comes back as sums and counts, so that batches and ranks are added up and divided once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from adatom.core.errors import ConfigError, DataError, unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.tasks.losses import LossSum, build_loss
from adatom.tasks.metrics import (
    ENERGY_AND_FORCES,
    MetricSum,
    energy_and_forces_within,
    metric_for,
)
from adatom.tasks.targets import (
    labelled,
    labels_of,
    of_datasets,
    references_of,
    row_systems,
    served,
    task_target,
)
from adatom.tasks.task import Task


def filter_inference_only_tasks(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks that are trained and measured, in order."""
    return [task for task in tasks if not task.inference_only]


def get_output_mask(batch: AtomicData, task: Task) -> dict[str, torch.Tensor]:
    """Return what of a task is labelled, over all and by dataset.

    Fixed atoms are not left out here; that is up to the loss and the metrics.

    Args:
        batch: A batch.
        task: A task.

    Returns:
        ``task.name`` and, for each dataset of the batch, ``"<dataset>.<task.name>"``: bool, ``[N]``
        for atoms (true where all components are finite), ``[B]`` for scalars of systems and
        ``[B, 3, 3]`` for their tensors (each component on its own). Systems whose dataset the task
        does not serve are false.
    """
    mask = served(task, labelled(task, batch), batch)
    masks = {task.name: mask}
    for dataset in sorted(set(batch.dataset)):
        rows = of_datasets(task, batch, [dataset], mask.dim())
        masks[f"{dataset}.{task.name}"] = mask & rows
    return masks


def get_output_masks(batch: AtomicData, tasks: Sequence[Task]) -> dict[str, torch.Tensor]:
    """Return the masks of several tasks; see :func:`get_output_mask`."""
    masks: dict[str, torch.Tensor] = {}
    for task in tasks:
        masks |= get_output_mask(batch, task)
    return masks


def compute_loss(
    tasks: Sequence[Task], predictions: Mapping[str, torch.Tensor], batch: AtomicData
) -> dict[str, LossSum]:
    """Return the loss of each task; their sum is what is minimized.

    A task without labels in the batch has a loss of zero that still depends on the prediction, so
    that every rank has gradients of the same parameters.

    Args:
        tasks: Those that are inference-only are left out.
        predictions: By property, in network units; what stands in rows without a label, even NaN,
            reaches neither the loss nor its gradient.
        batch: Systems with labels.

    Raises:
        ConfigError: If a task has no loss.
        UnknownNameError: If a prediction is missing, or no task serves a system's dataset.
        DataError: If a prediction or a label has the wrong shape.
    """
    known = {dataset for task in tasks for dataset in task.datasets}
    for dataset in batch.dataset:
        if dataset not in known:
            raise unknown_name("task", dataset, known)
    out = {}
    for task in filter_inference_only_tasks(tasks):
        if task.loss_fn is None:
            raise ConfigError(
                f"Task {task.name!r} has no loss",
                fix="Give it one, or mark it as inference_only.",
            )
        loss = build_loss(task.property, task.loss_fn)
        target = task_target(task, batch)
        out[task.name] = loss(_prediction(task, predictions, target.values), target)
    return out


def compute_metrics(
    task: Task,
    predictions: Mapping[str, torch.Tensor],
    batch: AtomicData,
    dataset_name: str | None = None,
    *,
    tasks: Sequence[Task] = (),
) -> dict[str, MetricSum]:
    """Return the errors of a task in physical units.

    Args:
        task: Its ``metrics`` are computed; ``eval_on_free_atoms`` leaves fixed atoms out.
        predictions: By property, in network units.
        batch: Systems with labels.
        dataset_name: Measure only systems of this dataset.
        tasks: All tasks, for metrics of more than one property
            (``energy_forces_within_threshold``).

    Returns:
        Sums by name of the metric; empty where nothing is labelled.

    Raises:
        UnknownNameError: If a metric or a prediction is not known, or the task does not serve
            ``dataset_name``.
        ConfigError: If a metric needs a property that ``tasks`` have no task for.
        DataError: If a prediction or a label has the wrong shape.
    """
    if dataset_name is not None and dataset_name not in task.datasets:
        raise unknown_name(f"dataset of task {task.name!r}", dataset_name, task.datasets)
    label = labels_of(task, batch)
    mask = served(task, labelled(task, batch), batch)
    if dataset_name is not None:
        mask = mask & of_datasets(task, batch, [dataset_name], mask.dim())
    if task.level == "atom" and task.eval_on_free_atoms:
        mask = mask & ~batch.fixed
    pred = physical(task, predictions, batch)
    natoms = batch.natoms.double()[row_systems(task, batch)]
    natoms = natoms[mask] if mask.dim() == 1 else natoms
    out = {}
    for name in task.metrics:
        metric = metric_for(task.property, name)
        if metric.elements is None:
            values = _both_right(task, pred - label, mask, predictions, batch, tasks)
        else:
            values = metric.elements(pred[mask], label[mask], natoms)
        out[name] = MetricSum.of(values, root=metric.root)
    return out


def _both_right(
    task: Task,
    energy_error: torch.Tensor,
    mask: torch.Tensor,
    predictions: Mapping[str, torch.Tensor],
    batch: AtomicData,
    tasks: Sequence[Task],
) -> torch.Tensor:
    """Return for each system that can be judged whether energy and forces are right."""
    error = batch.pos.new_full((batch.num_atoms, 3), torch.nan, dtype=torch.float64)
    has_label, measured, has_task = (torch.zeros_like(batch.fixed) for _ in range(3))
    for other in tasks:
        if other.property == "forces" and set(other.datasets) & set(task.datasets):
            own = of_datasets(other, batch, other.datasets, 1)
            difference = physical(other, predictions, batch) - labels_of(other, batch)
            error = torch.where(own[:, None], difference, error)
            has_label |= own & labelled(other, batch)
            measured |= own & ~batch.fixed if other.eval_on_free_atoms else own
            has_task |= own
    if not bool(has_task[mask[batch.batch]].all()):
        raise ConfigError(
            f"Metric {ENERGY_AND_FORCES!r} of task {task.name!r} needs forces, but some of its "
            "datasets have no task for them",
            expected=f"a forces task among tasks for each of: {', '.join(task.datasets)}",
        )
    right, judged = energy_and_forces_within(energy_error, error, measured, has_label, batch.batch)
    return right[mask & judged]


def physical(
    task: Task, predictions: Mapping[str, torch.Tensor], batch: AtomicData
) -> torch.Tensor:
    """Return a task's predictions ``[R, ...]`` in eV, eV/angstrom or eV/angstrom^3, float64.

    Args:
        task: Its normalizer and references are used for every row.
        predictions: By property, in network units.
        batch: What was predicted.
    """
    raw = _prediction(task, predictions, labels_of(task, batch)).detach().double()
    return task.normalizer.denorm(raw) + references_of(task, batch)


def _prediction(
    task: Task, predictions: Mapping[str, torch.Tensor], like: torch.Tensor
) -> torch.Tensor:
    if task.property not in predictions:
        raise unknown_name(f"prediction for task {task.name!r}", task.property, predictions)
    pred = predictions[task.property]
    if pred.shape != like.shape:
        raise DataError(
            f"The prediction of {task.property!r} for task {task.name!r} has shape "
            f"{tuple(pred.shape)}",
            expected=str(tuple(like.shape)),
        )
    return pred
