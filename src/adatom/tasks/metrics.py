"""Error measures as sums and counts, so that no average of averages is ever taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch

from adatom.core.errors import ConfigError, unknown_name

#: Errors below these are "right" (Open Catalyst): eV, and eV/angstrom of each component.
ENERGY_THRESHOLD = 0.02
FORCE_THRESHOLD = 0.03
#: The metric of energy tasks that needs the forces too.
ENERGY_AND_FORCES = "energy_forces_within_threshold"
#: Short names of the Open Catalyst leaderboard for metrics of ours.
LEADERBOARD: Mapping[str, str] = MappingProxyType(
    {
        "EwT": "energy_within_threshold",
        "EFwT": ENERGY_AND_FORCES,
        "cosine": "cosine_similarity",
    }
)

#: From predictions, labels (rows that count, physical units) and atoms of each row's system.
Elements = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


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
        elements: From (pred, target, natoms of each row) to one value per element; None for
            :data:`ENERGY_AND_FORCES`, which needs two properties.
        root: Take the root of the mean.
        properties: Properties it is defined for.
    """

    elements: Elements | None
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


def _within_energy(pred: torch.Tensor, target: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return (pred - target).abs() < ENERGY_THRESHOLD


def _norm(pred: torch.Tensor, target: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return _length(pred - target)


def _norm_squared(pred: torch.Tensor, target: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return ((pred - target) ** 2).sum(dim=-1)


def _cosine(pred: torch.Tensor, target: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    # Atoms without a force (by symmetry) have no direction to agree on; a predicted zero where
    # there is a force agrees with nothing.
    has_direction = _length(target) > 0.0
    pred, target = pred[has_direction], target[has_direction]
    predicted = _length(pred)
    lengths = torch.where(predicted > 0.0, predicted, 1.0) * _length(target)
    return (pred * target).sum(dim=-1) / lengths


def _magnitude(pred: torch.Tensor, target: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return (_length(pred) - _length(target)).abs()


def _length(vectors: torch.Tensor) -> torch.Tensor:
    return (vectors**2).sum(dim=-1).sqrt()


def _component(elements: Elements, axis: int) -> Metric:
    def of_axis(pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor) -> torch.Tensor:
        return elements(pred[:, axis], target[:, axis], natoms)

    return Metric(of_axis, root=False, properties=("forces",))


_ALL = ("energy", "forces", "stress", "relaxed_energy")
_ENERGY, _FORCES = ("energy", "relaxed_energy"), ("forces",)

_OWN: Mapping[str, Metric] = MappingProxyType(
    {
        "mae": Metric(_absolute, root=False, properties=_ALL),
        "mse": Metric(_squared, root=False, properties=_ALL),
        "rmse": Metric(_squared, root=True, properties=_ALL),
        "per_atom_mae": Metric(_per_atom_absolute, root=False, properties=_ENERGY),
        "per_atom_mse": Metric(_per_atom_squared, root=False, properties=_ENERGY),
        "per_atom_rmse": Metric(_per_atom_squared, root=True, properties=_ENERGY),
        "energy_within_threshold": Metric(_within_energy, root=False, properties=_ENERGY),
        ENERGY_AND_FORCES: Metric(None, root=False, properties=("energy",)),
        "norm_mae": Metric(_norm, root=False, properties=_FORCES),
        "norm_rmse": Metric(_norm_squared, root=True, properties=_FORCES),
        "cosine_similarity": Metric(_cosine, root=False, properties=_FORCES),
        "magnitude_error": Metric(_magnitude, root=False, properties=_FORCES),
        "forcesx_mae": _component(_absolute, 0),
        "forcesy_mae": _component(_absolute, 1),
        "forcesz_mae": _component(_absolute, 2),
        "forcesx_mse": _component(_squared, 0),
        "forcesy_mse": _component(_squared, 1),
        "forcesz_mse": _component(_squared, 2),
    }
)

#: Name to metric. ``mae``, ``mse`` and ``rmse`` are over components, ``norm_*`` over error vectors.
METRICS: Mapping[str, Metric] = MappingProxyType(
    {**_OWN, **{short: _OWN[name] for short, name in LEADERBOARD.items()}}
)

#: What is measured unless the task says otherwise.
DEFAULT_METRICS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "energy": ("per_atom_mae", "per_atom_rmse"),
        "forces": ("mae", "rmse", "cosine_similarity", "magnitude_error"),
        "stress": ("mae", "rmse"),
        "relaxed_energy": ("mae", "rmse", "EwT"),
    }
)


def metric_names(prop: str) -> list[str]:
    """Return the metrics that tasks of a property may have, sorted."""
    return sorted(name for name, metric in METRICS.items() if prop in metric.properties)


def check_metrics(prop: str, names: Iterable[str]) -> None:
    """Refuse names that are no metric of a property.

    Raises:
        UnknownNameError: Naming the nearest.
    """
    known = metric_names(prop)
    for name in names:
        if name not in known:
            raise unknown_name(f"metric of {prop}", name, known)


def metric_for(prop: str, name: str) -> Metric:
    """Return a metric.

    Raises:
        UnknownNameError: If no metric of that name is defined for the property.
    """
    check_metrics(prop, [name])
    return METRICS[name]


def energy_and_forces_within(
    energy_error: torch.Tensor,
    forces_error: torch.Tensor,
    measured: torch.Tensor,
    labelled: torch.Tensor,
    systems: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tell which systems are right in energy and in every force component.

    Args:
        energy_error: ``[B]`` eV.
        forces_error: ``[N, 3]`` eV/angstrom; NaN (a broken prediction) is not right.
        measured: ``[N]`` bool; atoms whose forces have to be right (the free ones).
        labelled: ``[N]`` bool; atoms with a label.
        systems: ``[N]`` int64 system of each atom.

    Returns:
        ``[B]`` bool whether both are within :data:`ENERGY_THRESHOLD` and :data:`FORCE_THRESHOLD`,
        and ``[B]`` bool whether the forces can be judged: some atom is measured, and all that are
        have a label.
    """
    wrong = measured & ~(forces_error.abs() < FORCE_THRESHOLD).all(dim=1)
    kinds = torch.stack([measured, measured & ~labelled, wrong]).double()
    counts = kinds.new_zeros(3, len(energy_error)).index_add(1, systems, kinds)
    right = (energy_error.abs() < ENERGY_THRESHOLD) & (counts[2] == 0.0)
    return right, (counts[0] > 0.0) & (counts[1] == 0.0)
