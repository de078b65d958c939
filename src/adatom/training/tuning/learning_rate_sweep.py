"""The loss while the learning rate rises (Smith, arXiv:1506.01186)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)
import numpy as np
from lightning.pytorch.callbacks import Callback

from adatom.training.train_unit import MLIPTrainEvalUnit

#: Weight of the past in the running mean of the loss.
_MEMORY = 0.95
#: The sweep ends where the loss is so many times the best one.
_DIVERGED = 4.0
#: Steps at the beginning whose running mean says little.
_FIRST = 5


@dataclass(slots=True)
class RateCurve:
    """Learning rates and the running mean of the loss, step by step."""

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def suggestion(self) -> float | None:
        """The learning rate where the loss falls most per decade, before it is lowest.

        None if it is lowest within the first steps: then it fell by chance, or never.
        """
        low = int(np.argmin(self.losses)) if self.losses else 0
        if low < _FIRST + 2:
            return None
        slopes = np.gradient(self.losses[: low + 1], np.log(self.rates[: low + 1]))
        steepest = _FIRST + int(np.argmin(slopes[_FIRST:]))
        return self.rates[steepest] if slopes[steepest] < 0.0 else None


class LearningRateSweep(Callback):
    """Raises the learning rate by the same factor at each step and keeps the loss.

    Args:
        min_lr: At the first step.
        max_lr: At the last step.
        num_steps: Steps, unless the loss diverges before.
    """

    def __init__(self, min_lr: float, max_lr: float, num_steps: int) -> None:
        super().__init__()
        self._rates = np.geomspace(min_lr, max_lr, num_steps).tolist()
        self.curve = RateCurve()
        self._mean = 0.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the learning rate of the step, whatever the schedule says."""
        del pl_module, batch, batch_idx
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self._rates[min(trainer.global_step, len(self._rates) - 1)]

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the loss; end where it has diverged."""
        del outputs, batch, batch_idx
        if not isinstance(pl_module, MLIPTrainEvalUnit):
            return
        loss, step = float(pl_module.last["loss"]), len(self.curve.losses)
        self._mean = _MEMORY * self._mean + (1.0 - _MEMORY) * loss
        mean = self._mean / (1.0 - _MEMORY ** (step + 1))
        self.curve.rates.append(self._rates[min(step, len(self._rates) - 1)])
        self.curve.losses.append(mean)
        if step > _FIRST and not mean < _DIVERGED * min(self.curve.losses) < math.inf:
            trainer.should_stop = True
