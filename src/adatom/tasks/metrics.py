"""Error measures as sums and counts, so that no average of averages is ever taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch

from adatom.core.errors import ConfigError, unknown_name


def _zero() -> torch.Tensor:
    return torch.zeros((), dtype=torch.float64)


@dataclass(slots=True)
class MetricSum:
    """A sum over elements, which adds over batches and over ranks.

    Attributes:
        total: ``[]`` float64 sum over the elements seen so far.
        count: ``[]`` float64 number of elements.
        root: Whether the result is the root of the mean (RMSE).
    """

    total: torch.Tensor = field(default_factory=_zero)
    count: torch.Tensor = field(default_factory=_zero)
    root: bool = False

    @classmethod
    def of(cls, values: torch.Tensor, *, root: bool = False) -> MetricSum:
        """Return the sum over the elements of ``values`` (any shape, none is fine), in float64."""
        values = values.detach().double()
        return cls(values.sum(), values.new_tensor(values.numel()), root)

    @property
    def value(self) -> float:
        """The mean (or its root); NaN before the first element."""
        count = float(self.count)
        if count == 0.0:
            return float("nan")
        mean = float(self.total) / count
        return float(mean**0.5) if self.root else mean

    def add(self, values: torch.Tensor) -> None:
        """Add the elements of ``values``."""
        self.__iadd__(MetricSum.of(values, root=self.root))

    def __iadd__(self, other: MetricSum) -> MetricSum:  # noqa: PYI034 (typing.Self would be the same)
        """Add the sums of another batch or rank; one without elements changes nothing."""
        if other.root != self.root:
            raise ConfigError("A mean and the root of a mean are added", expected="equal metrics")
        self.total = self.total + other.total
        self.count = self.count + other.count
        return self


@dataclass(frozen=True, slots=True)
class Metric:
    """How one measure is computed.

    Attributes:
        elements: From (pred, target, natoms of each row) to one value per element.
        root: Take the root of the mean.
        properties: Properties it is defined for.
    """

    elements: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    root: bool
    properties: tuple[str, ...]


def _absolute(pred: torch.Tensor, target: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return (pred - target).abs()


def _squared(pred: torch.Tensor, target: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return (pred - target) ** 2


def _per_atom_absolute(
    pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
) -> torch.Tensor:
    return (pred - target).abs() / natoms


def _per_atom_squared(
    pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
) -> torch.Tensor:
    return ((pred - target) / natoms) ** 2


def _norm(pred: torch.Tensor, target: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return _length(pred - target)


def _norm_squared(pred: torch.Tensor, target: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return ((pred - target) ** 2).sum(dim=-1)


def _cosine(pred: torch.Tensor, target: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    # Atoms without a force (by symmetry) have no direction to agree on.
    lengths = _length(pred) * _length(target)
    has_direction = lengths > 0.0
    dot = (pred * target).sum(dim=-1)[has_direction]
    return dot / lengths[has_direction]


def _magnitude(pred: torch.Tensor, target: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return (_length(pred) - _length(target)).abs()


def _length(vectors: torch.Tensor) -> torch.Tensor:
    return (vectors**2).sum(dim=-1).sqrt()


_ALL = ("energy", "forces", "stress")

#: Name to metric. ``mae`` and ``rmse`` are over components, ``norm_*`` over error vectors.
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "mae": Metric(_absolute, root=False, properties=_ALL),
        "rmse": Metric(_squared, root=True, properties=_ALL),
        "per_atom_mae": Metric(_per_atom_absolute, root=False, properties=("energy",)),
        "per_atom_rmse": Metric(_per_atom_squared, root=True, properties=("energy",)),
        "norm_mae": Metric(_norm, root=False, properties=("forces",)),
        "norm_rmse": Metric(_norm_squared, root=True, properties=("forces",)),
        "cosine": Metric(_cosine, root=False, properties=("forces",)),
        "magnitude_error": Metric(_magnitude, root=False, properties=("forces",)),
    }
)

#: What is measured unless the task says otherwise.
DEFAULT_METRICS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "energy": ("per_atom_mae", "per_atom_rmse"),
        "forces": ("mae", "rmse", "cosine", "magnitude_error"),
        "stress": ("mae", "rmse"),
    }
)


def metric_for(prop: str, name: str) -> Metric:
    """Return a metric.

    Raises:
        UnknownNameError: If no metric of that name is defined for the property.
    """
    known = {key for key, metric in METRICS.items() if prop in metric.properties}
    if name not in known:
        raise unknown_name(f"metric of {prop}", name, known)
    return METRICS[name]


class Measures:
    """Running sums of the metrics of one property.

    Args:
        prop: ``"energy"``, ``"forces"`` or ``"stress"``.
        names: Metrics; None takes :data:`DEFAULT_METRICS`.
    """

    def __init__(self, prop: str, names: tuple[str, ...] | list[str] | None = None) -> None:
        chosen = names if names is not None else DEFAULT_METRICS[prop]
        self._metrics = {name: metric_for(prop, name) for name in chosen}
        self._sums = {name: MetricSum(root=m.root) for name, m in self._metrics.items()}

    def add(
        self,
        pred: torch.Tensor,
        target: torch.Tensor,
        natoms: torch.Tensor,
        mask: torch.Tensor,
    ) -> None:
        """Add the rows of ``mask``; the others are never looked at.

        Args:
            pred: ``[R, ...]`` in eV, eV/angstrom or eV/angstrom^3.
            target: Same shape and units.
            natoms: ``[R]`` atoms of each row's system.
            mask: ``[R]`` bool.
        """
        pred, target, natoms = pred[mask].double(), target[mask].double(), natoms[mask]
        for name, metric in self._metrics.items():
            self._sums[name].add(metric.elements(pred, target, natoms))

    def values(self) -> dict[str, float]:
        """Return each metric so far; NaN where nothing was counted."""
        return {name: total.value for name, total in self._sums.items()}
