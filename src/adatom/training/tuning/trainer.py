"""Lightning's trainer with two more verbs, which find settings and apply none."""

from __future__ import annotations

import contextlib
from typing import Any

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)

from adatom.core.errors import ConfigError, NonFiniteError
from adatom.training.data_module import AtomisticDataModule
from adatom.training.train_unit import MLIPTrainEvalUnit
from adatom.training.tuning.batch_scaling import BatchScaling, TuningDone
from adatom.training.tuning.learning_rate_sweep import LearningRateSweep, RateCurve


class UnitTrainer(L.Trainer):
    """A trainer of units; after :meth:`lr_find` or :meth:`scale_batch` it is used up."""

    def lr_find(
        self,
        model: MLIPTrainEvalUnit,
        datamodule: AtomisticDataModule,
        *,
        min_lr: float = 1e-6,
        max_lr: float = 1.0,
        num_steps: int = 100,
    ) -> RateCurve:
        """Find a learning rate: train with a rising one until the loss diverges; keep nothing.

        Args:
            model: The unit; its weights change.
            datamodule: The data.
            min_lr: Learning rate at the first step.
            max_lr: Learning rate at the last step.
            num_steps: Steps, unless the loss diverges before.

        Raises:
            ConfigError: If there are less than 10 steps, or the rates do not rise.
        """
        if num_steps < 10 or not 0.0 < min_lr < max_lr:
            raise ConfigError(
                f"lr_find has {num_steps} steps from {min_lr:g} to {max_lr:g}",
                expected="at least 10 steps, and a learning rate that rises from above 0",
            )
        sweep = LearningRateSweep(min_lr, max_lr, num_steps)
        self._prepare(sweep)
        self.fit_loop.max_epochs = -1
        self.fit_loop.epoch_loop.max_steps = num_steps
        # Where the loss jumps to infinity, the sweep has shown what it can.
        with contextlib.suppress(NonFiniteError):
            self.fit(model, datamodule=datamodule)
        return sweep.curve

    def scale_batch(
        self,
        model: MLIPTrainEvalUnit,
        datamodule: AtomisticDataModule,
        *,
        max_batch_size: int = 256,
        memory_fraction: float = 0.8,
    ) -> BatchScaling:
        """Find a batch size: measure larger and larger batches of the largest structures.

        Args:
            model: The unit.
            datamodule: The data.
            max_batch_size: Structures at most.
            memory_fraction: Part of the available memory that may be used.

        Raises:
            ConfigError: If a number is out of range, or there are several processes.
        """
        if max_batch_size < 1 or not 0.0 < memory_fraction <= 1.0:
            raise ConfigError(
                f"scale_batch has max_batch_size {max_batch_size} and memory_fraction "
                f"{memory_fraction}",
                expected="at least 1, and from above 0 to 1",
            )
        if self.world_size > 1:
            raise ConfigError(
                f"scale_batch has {self.world_size} processes",
                expected="one: the limits of a batch are those of each process",
            )
        scaling = BatchScaling(max_batch_size, memory_fraction)
        self._prepare(scaling)
        with contextlib.suppress(TuningDone):
            self.fit(model, datamodule=datamodule)
        return scaling

    def _prepare(self, callback: L.Callback) -> None:
        mine: Any = self  # Lightning sets its callbacks elsewhere, without a type
        mine.callbacks.append(callback)
        self.limit_val_batches = 0
