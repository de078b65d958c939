"""The optimizer and the schedule of a training: ours, or those of torch by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from adatom.core.errors import ConfigError
from adatom.tasks.potential import Potential
from adatom.training.optimizer import ParameterGroups, adamw, parameter_groups
from adatom.training.schedule import CosineWithWarmup
from adatom.training.torch_optimizer import TorchClass, torch_optimizer, torch_schedule


@dataclass(slots=True, kw_only=True)
class Optimization:
    """How the weights of a potential are trained; see the arguments of ``MLIPTrainEvalUnit``.

    Attributes:
        optimizer: Of torch, all parameters in one group; None is AdamW with two groups.
        scheduler: Of torch; None is the cosine with warm-up for AdamW, and a constant learning
            rate for an optimizer of torch.
        interval: Whether ``scheduler`` goes on after each epoch or after each step.
    """

    lr: float
    weight_decay: float
    legacy_single_group: bool
    schedule: str
    warmup_fraction: float
    warmup_factor: float
    min_lr_factor: float
    optimizer: TorchClass | None = None
    scheduler: TorchClass | None = None
    interval: Literal["epoch", "step"] = "epoch"

    def __post_init__(self) -> None:
        """Refuse a warm-up that takes the whole run."""
        if not 0.0 <= self.warmup_fraction < 1.0:
            raise ConfigError(
                f"warmup_fraction is {self.warmup_fraction}", expected="from 0 to below 1"
            )

    def groups(self, potential: Potential) -> ParameterGroups:
        """Return the names of the trained parameters, with and without weight decay."""
        single = self.legacy_single_group or self.optimizer is not None
        return parameter_groups(potential, legacy_single_group=single)

    def configure(self, potential: Potential, total_steps: Callable[[], int]) -> Any:
        """Return what ``LightningModule.configure_optimizers`` has to.

        Args:
            potential: What is trained.
            total_steps: Tells the steps of the whole run, which only the cosine has to know.

        Raises:
            ConfigError: If a setting is out of range.
            UnknownNameError: If torch has no such class, or it no such argument.
        """
        if self.optimizer is None:
            optimizer: torch.optim.Optimizer = adamw(
                potential,
                lr=self.lr,
                weight_decay=self.weight_decay,
                legacy_single_group=self.legacy_single_group,
            )
        else:
            trained = [p for p in potential.parameters() if p.requires_grad]
            optimizer = torch_optimizer(trained, self.optimizer)
        if self.scheduler is not None:
            schedule = torch_schedule(optimizer, self.scheduler, self.interval)
            return {"optimizer": optimizer, "lr_scheduler": schedule}
        if self.optimizer is not None:
            return optimizer
        total = total_steps()
        cosine = CosineWithWarmup(
            optimizer,
            total=total,
            warmup=round(self.warmup_fraction * total),
            warmup_factor=self.warmup_factor,
            min_factor=self.min_lr_factor,
            kind=self.schedule,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": cosine, "interval": "step"},
        }
