"""Exponential moving average of the weights: what is validated and what is saved."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

from adatom.core.errors import ConfigError

M = TypeVar("M", bound=nn.Module)


def ema_decay(updates: int, decay: float) -> float:
    """Return ``min(decay, (1 + n) / (10 + n))`` after ``n`` earlier updates.

    The second term keeps the average of a short run from remembering its random start.
    """
    return min(decay, (1.0 + updates) / (10.0 + updates))


class WeightAverage(nn.Module, Generic[M]):
    """A second copy of a module that follows the first one slowly.

    It is a copy rather than weights swapped in and out, so that an interruption during validation
    can never leave the wrong weights in the module that is trained.

    Args:
        module: What is trained; copied now.
        decay: In [0, 1); 0 is a plain copy.

    Attributes:
        module: The averaged copy, without gradients.
        updates: How often :meth:`update` was called; part of the state dict.
    """

    def __init__(self, module: M, decay: float) -> None:
        super().__init__()
        if not 0.0 <= decay < 1.0:
            raise ConfigError(f"ema_decay is {decay}", expected="a number from 0 to below 1")
        self.decay = decay
        self.updates = 0
        self.module: M = copy.deepcopy(module)
        self.module.requires_grad_(requires_grad=False)

    @torch.no_grad()
    def update(self, module: M) -> None:
        """Move the average towards ``module``: ``average += (1 - decay) (weights - average)``."""
        weight = 1.0 - ema_decay(self.updates, self.decay)
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), weight)
        for average, value in zip(self.module.buffers(), module.buffers(), strict=True):
            average.copy_(value)
        self.updates += 1

    def get_extra_state(self) -> int:
        """Return the number of updates for the state dict."""
        return self.updates

    def set_extra_state(self, state: int) -> None:
        """Take the number of updates from a state dict."""
        self.updates = int(state)
