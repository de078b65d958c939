"""The state of a training: ``{unit_state: {progress, model, ema, optim, scheduler}, config}``.

Tensors of ``model``, ``ema`` and ``optim`` go to safetensors files; everything else is JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.optim import Optimizer

from adatom import __version__
from adatom.checkpoint.description import describe
from adatom.core.errors import CheckpointError
from adatom.core.files import require_readable
from adatom.tasks.potential import Potential
from adatom.training.checkpointing.directory import STATE
from adatom.training.checkpointing.plain_values import from_text, to_text
from adatom.training.checkpointing.tensors import (
    EMA,
    MODEL,
    OPTIM,
    empty_optimizer_state,
    module_tensors,
    optimizer_tensors,
    stored_tensors,
)
from adatom.training.ema import WeightAverage

FORMAT_NAME, FORMAT_VERSION = "adatom-training", 1
#: Entries of Lightning's checkpoint that have a place of their own here.
_ELSEWHERE = ("state_dict", "optimizer_states", "lr_schedulers")


@dataclass(frozen=True, slots=True)
class TrainedParts:
    """What of a unit changes while it trains.

    Attributes:
        potential: What is trained.
        average: Its weight average.
        optimizer: Of the potential's parameters; None if there is none yet.
    """

    potential: Potential
    average: WeightAverage[Potential]
    optimizer: Optimizer | None

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors by name; they share memory with the parts."""
        found = module_tensors(self.potential, MODEL) | module_tensors(self.average.module, EMA)
        if self.optimizer is not None:
            found |= optimizer_tensors(self.optimizer, self._names)
        return found

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the tensors without those of the optimizer."""
        return module_tensors(self.potential, MODEL) | module_tensors(self.average.module, EMA)

    def groups(self) -> list[dict[str, Any]]:
        """Return the settings of the optimizer's groups, with names of parameters."""
        if self.optimizer is None:
            return []
        return [
            group | {"params": [self._names[id(p)] for p in group["params"]]}
            for group in self.optimizer.param_groups
        ]

    def set_groups(self, groups: list[dict[str, Any]]) -> None:
        """Restore the settings that :meth:`groups` returned.

        Raises:
            CheckpointError: If other parameters are trained now, or in another order.
        """
        now = self.groups()
        if [g["params"] for g in now] != [g["params"] for g in groups]:
            before = {name for g in groups for name in g["params"]}
            after = {name for g in now for name in g["params"]}
            changed = sorted(before ^ after) or ["the order or the groups of all"]
            raise CheckpointError(
                f"The checkpoint has another set of trained parameters; it differs in {changed[0]}",
                fix="Continue with the model and frozen parameters that the run began with.",
            )
        if self.optimizer is not None:
            for mine, stored in zip(self.optimizer.param_groups, groups, strict=True):
                mine.update({key: value for key, value in stored.items() if key != "params"})

    def make_optimizer_state(self, path: Path) -> dict[str, torch.Tensor]:
        """Give the optimizer room for what a checkpoint has, and return it by name."""
        if self.optimizer is None:
            return {}
        parameters = {n: p for n, p in self.potential.named_parameters() if p.requires_grad}
        state = empty_optimizer_state(stored_tensors(path), parameters)
        for name, values in state.items():
            self.optimizer.state[parameters[name]] = dict(values)
        return {f"{OPTIM}{n}.{key}": t for n, values in state.items() for key, t in values.items()}

    @property
    def _names(self) -> dict[int, str]:
        return {id(p): name for name, p in self.potential.named_parameters()}


def state_text(
    checkpoint: Mapping[str, Any],
    parts: TrainedParts,
    *,
    config: Mapping[str, Any],
    planned_world: int,
) -> str:
    """Return everything but the tensors as JSON text.

    Args:
        checkpoint: As dumped by the trainer.
        parts: Of the unit.
        config: Of the run, as plain values.
        planned_world: Number of processes that the steps of the run are planned for.

    Raises:
        CheckpointError: If a callback or the configuration holds what JSON cannot.
    """
    progress = {key: value for key, value in checkpoint.items() if key not in _ELSEWHERE}
    state = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "adatom_version": __version__,
        "planned_world": planned_world,
        "unit_state": {
            "progress": progress,
            "ema": {"updates": parts.average.updates},
            "optim": {"param_groups": parts.groups()},
            "scheduler": checkpoint.get("lr_schedulers", []),
        },
        "config": dict(config),
        "potential": describe(parts.average.module),
    }
    return to_text(state, "state")


def read_state(path: Path) -> dict[str, Any]:
    """Return what :func:`state_text` was given.

    Raises:
        CheckpointError: If it is damaged, foreign or of a newer version.
        FileAccessError: If it cannot be read.
    """
    file = require_readable(path / STATE)
    state = from_text(file.read_text(encoding="utf-8"), str(file))
    if not isinstance(state, dict) or state.get("format") != FORMAT_NAME:
        raise CheckpointError(f"{str(file)!r} is not the state of an adatom training")
    if state.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{str(file)!r} has format version {state.get('format_version')}",
            expected=f"version {FORMAT_VERSION}",
            fix="Use the version of adatom that wrote it.",
        )
    return state


def read_config(run: Path) -> dict[str, Any]:
    """Return the configuration that a run directory holds, or nothing."""
    path = run / "config.yaml"
    found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found if isinstance(found, dict) else {}


def resume_text(config: Mapping[str, Any], run: Path) -> str:
    """Return ``resume.yaml``: the configuration of a run with its directory.

    Args:
        config: Of the run, as plain values.
        run: Its directory.
    """
    head = (
        "# The configuration that continues the run from its newest checkpoint. To continue from\n"
        "# the one in which this file lies, first remove those of later steps. To be used in\n"
        f"# {Path.cwd()}\n"
    )
    body: str = yaml.safe_dump({**config, "run_dir": str(run.absolute())}, sort_keys=False)
    return head + body
