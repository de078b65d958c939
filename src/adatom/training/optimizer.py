"""AdamW with weight decay only where it makes sense: on the weights of linear maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from adatom.core.errors import ConfigError

_NORM_WORDS = ("norm",)


@dataclass(frozen=True, slots=True)
class ParameterGroups:
    """Names of the trainable parameters by group, in the order of the module.

    Attributes:
        decay: Get weight decay.
        no_decay: Norms, biases, embeddings and everything with fewer than two dimensions.
    """

    decay: tuple[str, ...]
    no_decay: tuple[str, ...]

    def describe(self) -> str:
        """Return both lists as text, one parameter per line."""
        lines = [f"Weight decay ({len(self.decay)}):", *(f"  {name}" for name in self.decay)]
        lines += [f"No weight decay ({len(self.no_decay)}):"]
        lines += [f"  {name}" for name in self.no_decay]
        return "\n".join(lines)


def parameter_groups(module: nn.Module, *, legacy_single_group: bool = False) -> ParameterGroups:
    """Sort the trainable parameters of a module into those with and without weight decay.

    Decided by what a parameter is: parameters of embeddings and of modules whose class name says
    norm, biases, and scalars or vectors get none.

    Args:
        module: What is trained.
        legacy_single_group: Let everything decay, as the trainings of the published UMA models
            did.
    """
    if legacy_single_group:
        return ParameterGroups(
            tuple(n for n, p in module.named_parameters() if p.requires_grad), ()
        )
    exempt = set()
    for path, part in module.named_modules():
        kind = type(part).__name__.lower()
        # A norm or embedding may hold its parameters in submodules.
        if isinstance(part, nn.Embedding) or any(word in kind for word in _NORM_WORDS):
            exempt |= {f"{path}.{name}" if path else name for name, _ in part.named_parameters()}
    decay: list[str] = []
    no_decay: list[str] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        is_bias = name.rsplit(".", 1)[-1].startswith("bias")
        spared = name in exempt or is_bias or parameter.dim() < 2
        (no_decay if spared else decay).append(name)
    return ParameterGroups(tuple(decay), tuple(no_decay))


def adamw(
    module: nn.Module, *, lr: float, weight_decay: float, legacy_single_group: bool = False
) -> torch.optim.AdamW:
    """Make AdamW with the two groups of :func:`parameter_groups`.

    Args:
        module: What is trained.
        lr: Peak learning rate.
        weight_decay: Decoupled, for the first group only.
        legacy_single_group: Let everything decay.

    Raises:
        ConfigError: If a number is out of range or nothing is trainable.
    """
    if not lr > 0.0 or not weight_decay >= 0.0:
        raise ConfigError(
            f"lr is {lr} and weight_decay is {weight_decay}",
            expected="lr above 0 and weight_decay of 0 or more",
        )
    groups = parameter_groups(module, legacy_single_group=legacy_single_group)
    parameters = dict(module.named_parameters())
    settings: list[dict[str, Any]] = [
        {"params": [parameters[n] for n in groups.decay], "weight_decay": weight_decay},
        {"params": [parameters[n] for n in groups.no_decay], "weight_decay": 0.0},
    ]
    settings = [group for group in settings if group["params"]]
    if not settings:
        raise ConfigError("The potential has no trainable parameter")
    # The fused step is one kernel over all parameters: small networks have many tiny ones.
    return torch.optim.AdamW(settings, lr=lr, fused=True)
