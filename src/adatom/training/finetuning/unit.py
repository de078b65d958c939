"""The unit that trains a prepared potential further."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from adatom.tasks.potential import Potential
from adatom.training.finetuning.lora import MergedAverage
from adatom.training.train_unit import MLIPTrainEvalUnit


class FinetuningUnit(MLIPTrainEvalUnit):
    """Trains what requires gradients of a potential; its average has plain weights.

    Args:
        potential: With tasks that have their losses; parts may be frozen, or have low-rank
            changes.
        ema_decay: Of the average.
        **options: The others of :class:`MLIPTrainEvalUnit`.
    """

    def __init__(self, potential: Potential, *, ema_decay: float = 0.99, **options: Any) -> None:
        super().__init__(potential=potential, ema_decay=ema_decay, **options)
        self._decay = ema_decay

    def setup(self, stage: str) -> None:
        """Make the average, once; called by the trainer."""
        begun = hasattr(self, "potential")
        super().setup(stage)
        if begun or stage != "fit":
            return
        self.average = MergedAverage(self.potential, self._decay)
        # Frozen networks would take a path whose derivatives cannot be differentiated again,
        # which the gradient of a loss of forces needs.
        backbone = self.potential.backbone
        backbone.execution = replace(backbone.execution, mode="general")
