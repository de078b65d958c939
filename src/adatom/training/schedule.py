"""The learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

from adatom.core.errors import ConfigError, unknown_name


def cosine_with_warmup(
    step: int, *, total: int, warmup: int, warmup_factor: float, min_factor: float
) -> float:
    """Return the factor on the peak learning rate at ``step``.

    It rises linearly from ``warmup_factor`` to 1 at step ``warmup``, then falls as half a cosine
    to ``min_factor`` at step ``total``. The cosine begins where the warm-up ends, so that the
    factor has no jump.

    Args:
        step: From 0.
        total: Steps of the whole run; later steps keep ``min_factor``.
        warmup: Steps of the warm-up.
        warmup_factor: At step 0.
        min_factor: At the end.
    """
    if step < warmup:
        return warmup_factor + (1.0 - warmup_factor) * step / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return min_factor + 0.5 * (1.0 - min_factor) * (1.0 + math.cos(math.pi * progress))


def unshifted_cosine_with_warmup(
    step: int, *, total: int, warmup: int, warmup_factor: float, min_factor: float
) -> float:
    """Return the factor of fairchem's schedule, for runs that shall repeat a published recipe.

    Its cosine begins at step 0, under the warm-up, so that the factor drops at the end of a long
    warm-up from 1 to where the cosine has come by then. The arguments are those of
    :func:`cosine_with_warmup`; the warm-up has at least one step.
    """
    warmup = max(warmup, 1)
    if step <= warmup:
        return warmup_factor * (1.0 - step / warmup) + step / warmup
    if step >= total:
        return min_factor
    return min_factor + 0.5 * (1.0 - min_factor) * (1.0 + math.cos(math.pi * step / total))


#: Name of a schedule to its formula; ``fairchem_cosine`` is for repeating published recipes.
SCHEDULES: Mapping[str, Callable[..., float]] = MappingProxyType(
    {"cosine": cosine_with_warmup, "fairchem_cosine": unshifted_cosine_with_warmup}
)


class CosineWithWarmup(torch.optim.lr_scheduler.LRScheduler):
    """One of :data:`SCHEDULES` on all groups, once per step.

    Args:
        optimizer: Its learning rates are the peaks.
        total: Steps of the whole run.
        warmup: Steps of the warm-up.
        warmup_factor: Factor at step 0.
        min_factor: Factor at the end.
        kind: One of :data:`SCHEDULES`.

    Raises:
        ConfigError: If a factor is outside [0, 1] or a number of steps is negative.
        UnknownNameError: If there is no schedule of that kind.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        total: int,
        warmup: int,
        warmup_factor: float = 0.2,
        min_factor: float = 0.01,
        kind: str = "cosine",
    ) -> None:
        if kind not in SCHEDULES:
            raise unknown_name("schedule", kind, SCHEDULES)
        for name, value in (("warmup_factor", warmup_factor), ("min_factor", min_factor)):
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"{name} is {value}", expected="a number from 0 to 1")
        if warmup < 0 or total < 0:
            raise ConfigError(f"The schedule has {warmup} of {total} steps", expected="0 or more")
        self._total, self._warmup = total, warmup
        self._warmup_factor, self._min_factor = warmup_factor, min_factor
        self._kind = kind
        super().__init__(optimizer)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return one learning rate per group."""
        factor = SCHEDULES[self._kind](
            self.last_epoch,
            total=self._total,
            warmup=self._warmup,
            warmup_factor=self._warmup_factor,
            min_factor=self._min_factor,
        )
        return [rate * factor for rate in self.base_lrs]
