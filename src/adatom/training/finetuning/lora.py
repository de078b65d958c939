"""Low-rank adaptation: each linear map W becomes W + s B A, and only A and B are trained.

Hu et al., "LoRA: low-rank adaptation of large language models" (ICLR 2022). B begins at zero, so
the first predictions are those of the base. SO(2) and SO(3) maps stay equivariant: the change is
made to the stored matrices, of which each layer builds what it needs. Experts of a mixture share
one change, because the mixture is linear in them; matrices by dataset or degree have their own.
The averaged potential, which is validated and saved, holds the sums as plain weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn.utils import parametrize

from adatom.core.errors import ConfigError
from adatom.nn.experts import MixedLinear
from adatom.nn.so3 import SO3Linear
from adatom.tasks.potential import Potential
from adatom.training.ema import WeightAverage, ema_decay
from adatom.training.finetuning.methods import matching
from adatom.training.finetuning.settings import LoraSettings

#: Part of the parameters that is trained at most, where no rank is given.
MAX_FRACTION = 0.05
_LARGEST_RANK = 8


class LowRankChange(nn.Module):
    """The function from a frozen weight to the weight that is used.

    Args:
        weight: ``[out, in]`` or ``[K, out, in]``.
        rank: r.
        scale: Multiplies the change.
        shared: Whether all K matrices get the same change.
    """

    def __init__(self, weight: torch.Tensor, rank: int, scale: float, *, shared: bool) -> None:
        super().__init__()
        *several, out_features, in_features = weight.shape
        several = [] if shared else several
        self.scale = scale
        self.down = nn.Parameter(weight.new_empty(*several, rank, in_features))
        nn.init.normal_(self.down, std=in_features**-0.5)
        self.up = nn.Parameter(weight.new_zeros(*several, out_features, rank))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the changed weight."""
        return weight + self.scale * (self.up @ self.down)


@dataclass(frozen=True, slots=True)
class _Place:
    """A weight that can be changed."""

    path: str
    module: nn.Module
    attribute: str
    shared: bool

    @property
    def weight(self) -> torch.Tensor:
        weight: torch.Tensor = getattr(self.module, self.attribute)
        return weight

    @property
    def name(self) -> str:
        return f"{self.path}.{self.attribute}"

    def cost(self, rank: int) -> int:
        """Return how many numbers a change of this rank has."""
        *several, out_features, in_features = self.weight.shape
        count = 1 if self.shared or not several else several[0]
        return count * rank * (out_features + in_features)


def add_lora(potential: Potential, settings: LoraSettings) -> set[str]:
    """Freeze a potential and give its linear maps low-rank changes that are trained.

    Args:
        potential: Changed in place; predicts the same as before.
        settings: See :class:`LoraSettings`.

    Returns:
        The names of the weights that change.

    Raises:
        ConfigError: If a number is out of range, or no weight can be changed.
        UnknownNameError: If a pattern matches nothing.
    """
    if settings.rank is not None and settings.rank < 1:
        raise ConfigError(f"lora.rank is {settings.rank}", expected="1 or more, or null")
    if settings.alpha is not None and not settings.alpha > 0.0:
        raise ConfigError(f"lora.alpha is {settings.alpha}", expected="a positive number, or null")
    places = list(_places(potential))
    if settings.layers is not None:
        chosen = matching([place.name for place in places], settings.layers)
        places = [place for place in places if place.name in chosen]
    total = sum(p.numel() for p in potential.parameters())
    rank = settings.rank or _affordable_rank(places, total)
    places = [place for place in places if place.cost(rank) < place.weight.numel()]
    if not places:
        raise ConfigError(
            f"No linear map is large enough for low-rank changes of rank {rank}",
            fix="Take a smaller rank, or another method.",
        )
    potential.requires_grad_(requires_grad=False)
    for place in places:
        scale = (settings.alpha or rank) / rank
        change = LowRankChange(place.weight, rank, scale, shared=place.shared)
        parametrize.register_parametrization(place.module, place.attribute, change)
    return {place.name for place in places}


def plain_name(name: str) -> str | None:
    """Return the name that a parameter has without low-rank changes; None for these themselves."""
    path, marker, rest = name.partition(".parametrizations.")
    if not marker:
        return name
    attribute, _, part = rest.partition(".")
    return f"{path}.{attribute}" if part == "original" else None


def merged_lora(potential: Potential) -> Potential:
    """Return a copy whose plain weights are those that were used."""
    merged = copy.deepcopy(potential)
    for module in list(merged.modules()):
        if not parametrize.is_parametrized(module):
            continue
        names = list(cast("nn.ModuleDict", module.parametrizations))
        used = {name: getattr(module, name).detach() for name in names}
        # Not remove_parametrizations: it changes the class, which the original has too.
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        for name, value in used.items():
            module.register_parameter(name, nn.Parameter(value))
    return merged


class MergedAverage(WeightAverage[Potential]):
    """The average of the weights that are used, as plain weights.

    Args:
        potential: With or without low-rank changes.
        decay: See :class:`WeightAverage`.
    """

    def __init__(self, potential: Potential, decay: float) -> None:
        super().__init__(merged_lora(potential), decay)

    @torch.no_grad()
    def update(self, module: Potential) -> None:
        """Move the average towards the weights that ``module`` uses."""
        weight = 1.0 - ema_decay(self.updates, self.decay)
        used = []
        for name, _ in self.module.named_parameters():
            path, _, attribute = name.rpartition(".")
            used.append(getattr(module.get_submodule(path), attribute))
        torch._foreach_lerp_(list(self.module.parameters()), used, weight)
        for average, value in zip(self.module.buffers(), module.buffers(), strict=True):
            average.copy_(value)
        self.updates += 1


def _places(potential: Potential) -> Iterator[_Place]:
    for path, module in potential.named_modules():
        if isinstance(module, MixedLinear):
            # In a backbone experts are mixed; a head picks one of them for each dataset.
            mixed = bool(module.num_experts) and path.startswith("backbone.")
            attribute = "weights" if module.num_experts else "weight"
            yield _Place(path, module, attribute, shared=mixed)
        elif isinstance(module, (nn.Linear, SO3Linear)):
            yield _Place(path, module, "weight", shared=False)


def _affordable_rank(places: list[_Place], total: int) -> int:
    for rank in range(_LARGEST_RANK, 1, -1):
        used = [p.cost(rank) for p in places if p.cost(rank) < p.weight.numel()]
        if used and sum(used) < MAX_FRACTION * total:
            return rank
    return 1
