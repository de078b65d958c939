"""The potential that a fine-tuning begins with."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from adatom.checkpoint.format import load_potential
from adatom.checkpoint.weights import load_weights
from adatom.core.console import say
from adatom.core.errors import ConfigError, unknown_name
from adatom.core.precision import default_dtype
from adatom.models.base import Configurable
from adatom.models.registry import Allowed, build, class_path_of
from adatom.tasks.potential import Potential

_PARTS = ("backbone", "head")


def initialize_finetuning_model(
    checkpoint_location: str | os.PathLike[str],
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    heads: Mapping[str, Mapping[str, Any]] | None = None,
    strict: bool = True,
    *,
    allow: Collection[Allowed] = (),
) -> Potential:
    """Load a potential to train it further.

    Its weights are the averaged ones, which inference uses too, and its heads are kept: as long
    as nothing is trained, it predicts what the checkpoint predicts.

    Args:
        checkpoint_location: An adatom checkpoint, an official fairchem one (``.pt``), or a name.
        overrides: Other constructor arguments, ``{"backbone": {...}, "head": {...}}``.
        heads: New heads with fresh weights instead of the trained ones, from a name to
            ``{"class_path": ..., "init_args": {...}}``. Predictions then begin at random.
        strict: Whether each weight of the changed model must come from the checkpoint; otherwise
            those that do not fit are fresh, and are named.
        allow: Model classes of yours that the checkpoint may name.

    Returns:
        The potential on the CPU; parameters that are trained require gradients.

    Raises:
        ConfigError: If the experts were merged for one composition, or an argument is not known.
        CheckpointError: If the file cannot be read, or ``strict`` and a weight does not fit.
        UnknownNameError: If a part or a class is not known.
    """
    potential = load_potential(checkpoint_location, allow=allow)
    for dataset, domain in potential.domains.items():
        if domain.composition is not None:
            raise ConfigError(
                f"The experts of {str(checkpoint_location)!r} were merged for "
                f"{domain.composition} of dataset {dataset!r}",
                fix="Fine-tune the checkpoint that this one was merged from.",
            )
    for part in overrides or {}:
        if part not in _PARTS:
            raise unknown_name("part of the model", part, _PARTS)
    changes = {part: dict(changed) for part, changed in (overrides or {}).items() if changed}
    if not changes and heads is None:
        return potential
    backbone, head = potential.backbone, potential.head
    if "backbone" in changes:
        backbone = _with_arguments(backbone, changes["backbone"], strict=strict, allow=allow)
    if heads is not None:
        head = _fresh_heads(heads, potential.dtype, allow)
    elif "head" in changes:
        head = _with_arguments(head, changes["head"], strict=strict, allow=allow)
    return Potential(
        backbone, head, potential.tasks, potential.domains, metadata=potential.metadata
    )


def rebuild(
    module: Configurable, changes: Mapping[str, Any], *, allow: Collection[Allowed] = ()
) -> Any:
    """Return a module of the same class with some other constructor arguments, fresh weights.

    Args:
        module: A backbone or head.
        changes: By argument.
        allow: Classes of yours; that of ``module`` is always allowed.

    Raises:
        ConfigError: If an argument is not known.
    """
    arguments = {**module.init_args, **changes}
    dtype = next((p.dtype for p in module.parameters()), torch.get_default_dtype())
    with default_dtype(dtype):
        return build(class_path_of(module), arguments, allow=[*allow, type(module)])


def _with_arguments(
    module: Configurable,
    changes: Mapping[str, Any],
    *,
    strict: bool,
    allow: Collection[Allowed],
) -> Any:
    made = rebuild(module, changes, allow=allow)
    carry_over(module.state_dict(), made, strict=strict)
    return made


def carry_over(weights: Mapping[str, torch.Tensor], module: nn.Module, *, strict: bool) -> None:
    """Copy weights into a module.

    Args:
        weights: By name.
        module: Changed in place.
        strict: Refuse any difference; otherwise weights that do not fit stay as they are and are
            named in a message.

    Raises:
        CheckpointError: If ``strict`` and a weight is missing, left over or of another shape.
    """
    wanted = module.state_dict()
    fitting = {n: w for n, w in weights.items() if n in wanted and wanted[n].shape == w.shape}
    if strict or len(fitting) == len(wanted) == len(weights):
        load_weights(module, weights, "the base checkpoint")
        return
    fresh = sorted(set(wanted) - set(fitting))
    load_weights(module, {**wanted, **fitting}, "the base checkpoint")
    more = f" and {len(fresh) - 8} more" if len(fresh) > 8 else ""
    say(f"Fresh weights, which the base does not have: {', '.join(fresh[:8])}{more}.")


def _fresh_heads(
    heads: Mapping[str, Mapping[str, Any]], dtype: torch.dtype, allow: Collection[Allowed]
) -> Any:
    if not heads:
        raise ConfigError("heads is empty", expected="null to keep the heads, or new heads by name")
    entries = {name: dict(heads[name]) for name in sorted(heads)}
    with default_dtype(dtype):
        if len(entries) > 1:
            return build("Heads", {"heads": entries}, allow=allow)
        ((name, entry),) = entries.items()
        if set(entry) != {"class_path", "init_args"}:
            raise ConfigError(
                f"The head {name!r} is {entry!r}", expected="class_path and init_args"
            )
        return build(entry["class_path"], entry["init_args"], allow=allow)
