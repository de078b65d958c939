"""Evaluation and prediction of a potential as a Lightning module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)
import torch

from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Backbone
from adatom.tasks.metrics import DEFAULT_METRICS
from adatom.tasks.potential import Potential
from adatom.tasks.task import Task
from adatom.training.evaluation import Evaluation
from adatom.training.step_loss import LossMean
from adatom.training.tasks_from_data import with_losses


class MLIPEvalUnit(L.LightningModule):
    """Measures a potential: ``trainer.validate``, ``test`` and ``predict``.

    Results are called ``val/<property>_<metric>``, with ``<dataset>/`` before the property if the
    potential has several datasets.

    Args:
        potential: What is measured.
        losses: From property to its loss; None takes the losses of the potential's tasks.
        metrics: From property to names; None takes those of the tasks.
        loss_mean: What shares one mean in the loss: each ``task``, or all of a ``property``.

    Attributes:
        potential: What is measured.
        predicted_properties: What :meth:`predict_step` gives of what the potential has.
    """

    potential: Potential
    predicted_properties: frozenset[str] = frozenset(
        {"energy", "forces", "stress", "relaxed_energy"}
    )

    def __init__(
        self,
        potential: Potential | None = None,
        *,
        losses: Mapping[str, Mapping[str, Any]] | None = None,
        metrics: Mapping[str, Sequence[str]] | None = None,
        loss_mean: LossMean = "task",
    ) -> None:
        super().__init__()
        self._loss_specs = losses
        self._metrics = metrics
        self._loss_mean = loss_mean
        self._evaluation: Evaluation | None = None
        if potential is not None:
            self.potential = potential

    @property
    def backbone(self) -> Backbone:
        """The network, whose cutoff decides the neighbor lists."""
        return self.potential.backbone

    @property
    def evaluated(self) -> Potential:
        """The potential that is measured and predicts."""
        return self.potential

    def evaluated_tasks(self) -> list[Task]:
        """Return the tasks that are measured, with their losses and metrics."""
        potential = self.evaluated
        tasks = list(potential.tasks)
        if self._loss_specs is not None:
            tasks = with_losses(tasks, self._loss_specs)
        metrics = self._metrics or {}
        return [
            replace(
                task,
                metrics=list(
                    metrics.get(task.property, task.metrics or DEFAULT_METRICS[task.property])
                ),
            )
            for task in tasks
            if all(task.property in potential.properties(name) for name in task.datasets)
        ]

    def setup(self, stage: str) -> None:
        """Check that there is something to measure; called by the trainer.

        Raises:
            ConfigError: If there is no potential.
        """
        if not hasattr(self, "potential"):
            raise ConfigError(f"There is no potential to {stage}", fix="Give it one.")

    def on_validation_epoch_start(self) -> None:
        """Begin new sums."""
        self._evaluation = Evaluation(self.evaluated, self.evaluated_tasks(), self._loss_mean)

    def validation_step(self, batch: AtomicData, batch_idx: int) -> None:
        """Add a batch to the sums."""
        del batch_idx
        if self._evaluation is None:
            raise ConfigError("validation_step was called outside of a validation")
        self._evaluation.add(batch)

    def on_validation_epoch_end(self) -> None:
        """Publish ``val/loss`` and the errors in physical units to callbacks."""
        self._publish("val")

    def on_test_epoch_start(self) -> None:
        """Begin new sums."""
        self.on_validation_epoch_start()

    def test_step(self, batch: AtomicData, batch_idx: int) -> None:
        """Add a batch to the sums."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Publish the errors as ``test/...``."""
        self._publish("test")

    def predict_step(self, batch: AtomicData, batch_idx: int) -> dict[str, torch.Tensor]:
        """Return energy (or relaxed energy), forces and stress in eV and angstrom.

        Potentials with direct forces have stress only if a head predicts it.
        """
        del batch_idx
        potential = self.evaluated
        potential.check_input(batch)
        possible = {name for dataset in batch.dataset for name in potential.properties(dataset)}
        raw = potential(batch, possible & self.predicted_properties)
        detached = {name: value.detach() for name, value in raw.items()}
        return potential.denormalize(detached, batch)

    def _publish(self, prefix: str) -> None:
        if self._evaluation is not None:
            values = {f"{prefix}/{name}": v for name, v in self._evaluation.values().items()}
            # The same on every rank already.
            self.log_dict(values, logger=False)
            self._evaluation = None
