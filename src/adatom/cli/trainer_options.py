"""Which options of Lightning's trainer a training has, and why it lacks the others."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Any

from adatom.core.errors import ConfigError

#: What differs from Lightning's own defaults.
TRAINER_DEFAULTS: Mapping[str, Any] = types.MappingProxyType(
    {"devices": 1, "max_epochs": 100, "gradient_clip_val": 100.0, "num_sanity_val_steps": 0}
)

#: What no configuration changes: our own bar, and gradients in validation (forces are derivatives).
TRAINER_CONSTANTS: Mapping[str, Any] = types.MappingProxyType(
    {"inference_mode": False, "enable_progress_bar": False, "enable_model_summary": False}
)

#: Options that would do nothing here, or something else than they say, with what to do instead.
NOT_OPTIONS: Mapping[str, str] = types.MappingProxyType(
    {
        "inference_mode": "Forces are derivatives, which validation needs too.",
        "enable_progress_bar": "The progress bar is always there.",
        "enable_model_summary": "The preflight counts the parameters.",
        "enable_checkpointing": "Checkpoints are always written; see 'checkpoint'.",
        "log_every_n_steps": "Set logging.every_n_steps.",
        "default_root_dir": "Set run_dir.",
        "enable_autolog_hparams": "The run directory has the configuration.",
        "model_registry": "It needs an account with Lightning.",
        "fast_dev_run": "Set preflight.only, or trainer.max_steps.",
        "overfit_batches": "Set data.train.index to a few structures.",
        "limit_train_batches": "Set data.train.index, or trainer.max_steps.",
        "barebones": "Set logging.every_n_steps to a large number.",
        "gradient_clip_algorithm": "Gradients are clipped by their norm.",
        "sync_batchnorm": "No network here has batch norms.",
        "use_distributed_sampler": "Batches are always shared out over the processes.",
        "reload_dataloaders_every_n_epochs": "Batches are packed anew in every epoch.",
        "plugins": "Set trainer.strategy; what started the processes is recognized.",
    }
)

_PRECISIONS = (None, "32", "32-true", "64", "64-true", 32, 64)


def explain_missing_option(message: str) -> ConfigError | None:
    """Return the error for an option of Lightning that is not an option here, if it is one.

    Args:
        message: What the parser complains about.
    """
    for name, instead in NOT_OPTIONS.items():
        if re.search(rf"['\"-]trainer\.{name}\b|'trainer' .*'{name}'", message):
            return ConfigError(f"trainer.{name} is not an option of a training", fix=instead)
    return None


def check_precision(precision: object) -> None:
    """Refuse a precision that Lightning would force upon a whole potential.

    Args:
        precision: What ``trainer.precision`` says.

    Raises:
        ConfigError: If it is not 32 or 64 bits.
    """
    if precision not in _PRECISIONS:
        raise ConfigError(
            f"trainer.precision is {precision!r}",
            expected="null, 32-true or 64-true",
            fix="For bfloat16 where it is safe set model.bf16: true.",
        )
