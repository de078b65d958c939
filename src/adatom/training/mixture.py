"""How often structures of each dataset are drawn, where several datasets train together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from adatom.core.errors import ConfigError, unknown_name

Rows = npt.NDArray[np.int64]


@dataclass(slots=True, kw_only=True)
class Mixture:
    """How often each structure is drawn in one epoch.

    Attributes:
        sampling: ``explicit``: as ``ratios`` say. ``balanced``: every dataset as often as the
            largest. ``temperature``: datasets of n structures as often as n^(1/T); 1 is what the
            data are, infinity is balanced.
        ratios: From dataset to draws of each of its structures per epoch, such as 0.5 or 3.
        temperature: T, at least 1.
    """

    sampling: Literal["explicit", "balanced", "temperature"] = "explicit"
    ratios: dict[str, float] | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        """Refuse what does not belong to the kind of sampling."""
        if (self.ratios is not None) != (self.sampling == "explicit"):
            raise ConfigError(
                f"mixture.ratios do not go with mixture.sampling {self.sampling!r}"
                if self.ratios is not None
                else "mixture.sampling is 'explicit', but mixture.ratios are not given",
                fix="Give ratios with explicit sampling, and only there.",
            )
        if (self.temperature is not None) != (self.sampling == "temperature"):
            raise ConfigError(
                f"mixture.temperature is {self.temperature} with sampling {self.sampling!r}",
                fix="Give a temperature with temperature sampling, and only there.",
            )
        if self.temperature is not None and not self.temperature >= 1.0:
            raise ConfigError(f"mixture.temperature is {self.temperature}", expected="at least 1")
        for name, ratio in (self.ratios or {}).items():
            if not 0.0 <= ratio < float("inf"):
                raise ConfigError(f"mixture.ratios.{name} is {ratio}", expected="0 or more")


def sampling_ratios(mixture: Mixture, counts: Mapping[str, int]) -> dict[str, float]:
    """Return how often each structure of each dataset is drawn per epoch, on average.

    Args:
        mixture: What was asked for.
        counts: Structures of each dataset.

    Raises:
        UnknownNameError: If a ratio names no dataset.
        ConfigError: If a dataset has no ratio, or nothing would be drawn.
    """
    if mixture.ratios is not None:
        for name in mixture.ratios:
            if name not in counts:
                raise unknown_name("dataset in mixture.ratios", name, counts)
        for name in counts:
            if name not in mixture.ratios:
                raise ConfigError(
                    f"mixture.ratios have no entry for dataset {name!r}",
                    fix=f"Add ratios.{name}: 1.0, or 0 to leave it out.",
                )
        if not any(mixture.ratios.values()):
            raise ConfigError("All mixture.ratios are 0, so nothing would be drawn")
        return {name: mixture.ratios[name] for name in counts}
    power = 1.0 / mixture.temperature if mixture.temperature is not None else 0.0
    largest = max(counts.values())
    return {name: (n / largest) ** (power - 1.0) for name, n in counts.items()}


class MixedOrder:
    """Draws each epoch anew: a pure function of (seed, epoch).

    A structure of a dataset with ratio r is drawn floor(r) times and once more with the
    probability that is left, so that r is exact on average. No structure is drawn twice before
    all others of its dataset were drawn once.

    Args:
        datasets: Name for each structure.
        ratios: From :func:`sampling_ratios`.
        seed: Together with the epoch it decides what is drawn, in which order.
    """

    def __init__(self, datasets: Sequence[str], ratios: Mapping[str, float], seed: int) -> None:
        names = np.asarray(datasets)
        self._parts = [(np.flatnonzero(names == name), ratios[name]) for name in sorted(ratios)]
        self._seed = seed

    def rows(self, epoch: int) -> Rows:
        """Return the rows of an epoch in the order of training."""
        random = np.random.default_rng([self._seed, epoch])
        drawn = []
        for rows, ratio in self._parts:
            whole = int(ratio)
            extra = (ratio - whole) * len(rows)
            # The part of a structure that is left over is drawn with its probability.
            count = min(int(extra) + int(random.random() < extra - int(extra)), len(rows))
            drawn += [rows] * whole + [random.choice(rows, count, replace=False)]
        return random.permutation(np.concatenate(drawn))
