"""Losses and errors of a potential over any number of batches and ranks, from sums and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from adatom.data.atomic_data import AtomicData
from adatom.tasks.losses import LossSum
from adatom.tasks.metrics import MetricSum, metric_for
from adatom.tasks.objective import compute_metrics
from adatom.tasks.potential import Potential
from adatom.tasks.task import Task
from adatom.training.reduction import sum_over_ranks
from adatom.training.step_loss import LossMean, add_up, loss_names, loss_sums, over_ranks


class Evaluation:
    """Adds up batches; the result does not depend on how structures were batched or shared out.

    Args:
        potential: In evaluation mode.
        tasks: What is measured; a task without a loss has metrics only.
        mean: What shares one mean in the loss.
    """

    def __init__(
        self, potential: Potential, tasks: Sequence[Task], mean: LossMean = "task"
    ) -> None:
        self._potential = potential
        self._tasks = list(tasks)
        self._objective = [replace(t, inference_only=t.loss_fn is None) for t in tasks]
        self._mean = mean
        self._several = len(potential.datasets) > 1
        # All names from the beginning: ranks that saw other datasets must add up the same list.
        device = next(potential.parameters()).device
        nothing = torch.zeros((), dtype=torch.float64, device=device)
        self._losses = {
            name: LossSum(nothing, nothing, nothing) for name in loss_names(self._objective, mean)
        }
        self._metrics = {
            (dataset, task.property, name): MetricSum(
                nothing, nothing, metric_for(task.property, name).root
            )
            for task in self._tasks
            for dataset in task.datasets
            for name in task.metrics
        }

    def add(self, batch: AtomicData) -> None:
        """Predict a batch and add its losses and errors."""
        raw = self._potential(batch, {task.property for task in self._tasks})
        raw = {name: value.detach() for name, value in raw.items()}
        sums = loss_sums(self._objective, raw, batch, self._mean)
        self._losses = add_up([self._losses, sums])
        for task in self._tasks:
            for dataset in sorted(set(batch.dataset) & set(task.datasets)):
                found = compute_metrics(task, raw, batch, dataset, tasks=self._tasks)
                for name, part in found.items():
                    self._metrics[dataset, task.property, name] += part

    def values(self, *, of_all_ranks: bool = True) -> dict[str, float]:
        """Return ``loss`` and, by property (and dataset if there are several), the errors.

        Errors are in eV, eV/atom, eV/angstrom and eV/angstrom^3; the loss is normalized. What no
        structure has a label for is left out.

        Args:
            of_all_ranks: Every rank calls this, and all get the same. False tells only about what
                was added on this one.
        """
        sums = over_ranks(self._losses) if of_all_ranks else self._losses
        losses = {n: s.value.item() for n, s in sums.items() if s.values > 0}
        out = {"loss": sum(losses.values())} if losses else {}
        out |= {f"{name}_loss": value for name, value in losses.items()}
        metrics = list(self._metrics.values())
        whole = metrics
        if of_all_ranks:
            totals = iter(sum_over_ranks([t for m in metrics for t in (m.total, m.count)]))
            whole = [MetricSum(next(totals), next(totals), m.root) for m in metrics]
        for (dataset, prop, name), metric in sorted(zip(self._metrics, whole, strict=True)):
            if metric.count > 0:
                where = f"{dataset}/" if self._several else ""
                out[f"{where}{prop}_{name}"] = metric.value
        return out
