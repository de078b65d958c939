"""The options ``optimizer`` and ``lr_scheduler`` of a training."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from adatom.core.errors import ConfigError
from adatom.training.optimization import Optimization
from adatom.training.torch_optimizer import TorchClass
from adatom.training.train_unit import MLIPTrainEvalUnit

#: Settings of the model that an optimizer or a schedule of torch has instead.
_OF_ADAMW = ("lr", "weight_decay", "legacy_single_group")
_OF_COSINE = ("schedule", "warmup_fraction", "warmup_factor", "min_lr_factor")


def choose_optimizer(optimization: Optimization, options: Mapping[str, Any]) -> None:
    """Hand over an optimizer or a schedule of torch.

    Args:
        optimization: Of the unit; changed.
        options: Of the command, as parsed.

    Raises:
        ConfigError: If a setting of ours that would do nothing then is not the default.
    """
    optimizer, scheduler = _named(options["optimizer"]), _named(options["lr_scheduler"])
    replaced = list(_OF_ADAMW) if optimizer else []
    replaced += _OF_COSINE if optimizer or scheduler else []
    defaults = inspect.signature(MLIPTrainEvalUnit).parameters
    for name in replaced:
        if options["model"][name] != defaults[name].default:
            key = "optimizer" if optimizer else "lr_scheduler"
            raise ConfigError(
                f"model.{name} is set, which does nothing beside {key}", fix="Drop one of them."
            )
    optimization.optimizer, optimization.scheduler = optimizer, scheduler
    optimization.interval = options["lr_scheduler_interval"]


def _named(choice: Any) -> TorchClass | None:
    """Return a class and its arguments as a configuration has them."""
    return choice and TorchClass(choice["class_path"], dict(choice.get("init_args") or {}))
