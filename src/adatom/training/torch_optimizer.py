"""Optimizers and schedules of torch, by name: ``{class_path: torch.optim.Adam, init_args: {...}}``.

Only classes of ``torch.optim`` and ``torch.optim.lr_scheduler`` are looked up, in a table; nothing
is imported from the text.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch.optim import lr_scheduler

from adatom.core.errors import ConfigError, UnknownNameError, did_you_mean, unknown_name

#: What cannot be made of plain values, or needs several evaluations for one step.
_UNUSABLE = {
    *("Optimizer", "LBFGS", "SparseAdam", "Muon"),
    *("LRScheduler", "_LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR"),
    "ChainedScheduler",
}


@dataclass(slots=True, frozen=True)
class TorchClass:
    """A class of torch and its arguments.

    Attributes:
        class_path: Such as ``torch.optim.Adam`` or ``torch.optim.lr_scheduler.ExponentialLR``.
        init_args: Such as ``{"lr": 0.0005}``.
    """

    class_path: str
    init_args: Mapping[str, Any] = field(default_factory=dict)


def torch_optimizer(
    parameters: Iterable[torch.nn.Parameter], chosen: TorchClass
) -> torch.optim.Optimizer:
    """Make an optimizer whose parameters are one group.

    Args:
        parameters: What is trained.
        chosen: A class of ``torch.optim``.

    Raises:
        UnknownNameError: If torch has no such optimizer, or it no such argument.
        ConfigError: If it refuses a value.
    """
    made: torch.optim.Optimizer = _made("optimizer", chosen, list(parameters))
    return made


def torch_schedule(
    optimizer: torch.optim.Optimizer, chosen: TorchClass, interval: str
) -> dict[str, Any]:
    """Make a schedule as Lightning wants it described.

    Args:
        optimizer: What it is for.
        chosen: A class of ``torch.optim.lr_scheduler``.
        interval: ``"epoch"`` or ``"step"``.

    Raises:
        UnknownNameError: If torch has no such schedule, or it no such argument.
        ConfigError: If it refuses a value.
    """
    made = _made("lr_scheduler", chosen, optimizer)
    found = {"scheduler": made, "interval": interval}
    if isinstance(made, lr_scheduler.ReduceLROnPlateau):
        found |= {"monitor": "val/loss"}
    return found


def unknown_class(key: str, class_path: str) -> UnknownNameError:
    """Build the error for a class that is not one of torch's usable ones.

    Args:
        key: ``optimizer`` or ``lr_scheduler``.
        class_path: What was given, with or without the module.
    """
    known = _classes(key)
    near = did_you_mean(class_path.rpartition(".")[2], [path.rpartition(".")[2] for path in known])
    return UnknownNameError(
        f"Unknown {key}.class_path {class_path!r}{near}", expected=f"one of: {', '.join(known)}"
    )


def _classes(key: str) -> dict[str, type]:
    """Return the usable classes of torch by import path, sorted."""
    module: ModuleType = torch.optim if key == "optimizer" else lr_scheduler
    base = torch.optim.Optimizer if key == "optimizer" else lr_scheduler.LRScheduler
    return {
        f"{module.__name__}.{name}": kind
        for name, kind in sorted(vars(module).items())
        if isinstance(kind, type) and issubclass(kind, base) and name not in _UNUSABLE
    }


def _made(key: str, chosen: TorchClass, first: Any) -> Any:
    path, arguments, kinds = chosen.class_path, dict(chosen.init_args), _classes(key)
    # torch.optim.adam.Adam is torch.optim.Adam.
    if path.startswith("torch.optim."):
        short = {name.rpartition(".")[2]: name for name in kinds}
        path = short.get(path.rpartition(".")[2], path)
    if path not in kinds:
        raise unknown_class(key, path)
    known = list(inspect.signature(kinds[path]).parameters)[1:]
    for argument in arguments:
        if argument not in known:
            raise unknown_name(f"argument of {path}", argument, known)
    try:
        return kinds[path](first, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} refuses its arguments: {error}", fix=f"Correct {key}.init_args."
        ) from error
