"""Losses: one small class each, chosen by name.

A loss sees only rows that count. Rows without a label and atoms that are held fixed are replaced by
zeros before anything is computed, so that a NaN there can reach neither the value nor the gradient
(NaN times zero is NaN), and no shape depends on values, which a GPU would have to wait for.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from adatom.core.errors import ConfigError, did_you_mean, unknown_name
from adatom.tasks.targets import Target

#: How the values of a batch become one number.
REDUCTIONS = ("mean", "sum", "per_structure")


@dataclass(slots=True, frozen=True)
class LossSum:
    """What one loss has added up over a batch; adds over batches and over ranks.

    The loss of any number of batches is :attr:`value` of their sum. Over ranks, with gradients
    that are averaged over them (DDP), the loss of each rank is
    ``world_size * total / max(sum of the ranks' counts, 1)``: the average of its gradients is the
    gradient of the mean over all ranks, however unequal their shares are.

    Attributes:
        total: ``[]`` float64 coefficient times the sum of the values, with its graph. Without
            values it is zero, but still depends on the prediction.
        count: ``[]`` float64 what the total is divided by: the number of values or of structures;
            0 for the reduction ``"sum"``.
        values: ``[]`` float64 number of values that were labelled and counted.
    """

    total: torch.Tensor
    count: torch.Tensor
    values: torch.Tensor

    @property
    def value(self) -> torch.Tensor:
        """``[]`` the loss, with its graph; zero where nothing was counted."""
        return self.total / self.count.clamp(min=1.0)

    def __add__(self, other: LossSum) -> LossSum:
        """Return the sum of two batches."""
        return LossSum(
            self.total + other.total, self.count + other.count, self.values + other.values
        )


class Loss(ABC):
    """One value per row or component, and how the values of a batch become one number.

    Args:
        coefficient: Weight in the total loss.
        reduction: ``"mean"`` over all values, ``"sum"`` of them, or ``"per_structure"``: the mean
            over structures of each structure's own mean, so that small ones weigh as much as
            large ones.

    Attributes:
        property: Property it is made for.
        name: Name within that property.
        whole_rows: Whether one value needs all components of a row.
    """

    property: ClassVar[str]
    name: ClassVar[str]
    whole_rows: ClassVar[bool] = False

    def __init__(self, coefficient: float = 1.0, reduction: str = "mean") -> None:
        if not coefficient >= 0.0:
            raise ConfigError(
                f"The coefficient of loss {self.name!r} of {self.property} is {coefficient}",
                expected="a number that is not negative",
            )
        if reduction not in REDUCTIONS:
            near = did_you_mean(str(reduction), REDUCTIONS)
            raise ConfigError(
                f"The reduction of loss {self.name!r} of {self.property} is {reduction!r}{near}",
                expected=f"one of: {', '.join(REDUCTIONS)}",
            )
        self.coefficient = float(coefficient)
        self.reduction = reduction

    @abstractmethod
    def values(
        self, pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of each component or row; zero where both are equal.

        Args:
            pred: ``[R]`` energies, ``[R, 3]`` forces or ``[R, 3, 3]`` stresses, normalized.
            target: Same shape.
            natoms: ``[R]`` atoms of each row's system.
        """

    def __call__(self, pred: torch.Tensor, target: Target) -> LossSum:
        """Return the weighted sum over what counts, and how much that is.

        Args:
            pred: ``[R, ...]`` normalized; anything may stand where ``target.mask`` is false.
            target: Normalized labels of the same rows.
        """
        mask = target.mask
        if self.whole_rows:
            mask = mask.flatten(1).all(dim=1) if mask.dim() > 1 else mask
        counts = mask.view(*mask.shape, *([1] * (pred.dim() - mask.dim()))).expand_as(pred)
        values = self.values(
            torch.where(counts, pred, 0.0),
            torch.where(counts, target.values, 0.0).to(pred.dtype),
            target.natoms.to(pred.dtype),
        ).double()
        counted = (mask if values.dim() == mask.dim() else counts).double()
        total, count = self._reduce(values, counted, target)
        return LossSum(self.coefficient * total, count, counted.sum())

    def _reduce(
        self, values: torch.Tensor, counted: torch.Tensor, target: Target
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.reduction == "mean":
            return values.sum(), counted.sum()
        if self.reduction == "sum":
            return values.sum(), counted.new_zeros(())
        rows = torch.stack([_row_sums(values), _row_sums(counted)])
        sums = rows.new_zeros(2, target.num_systems).index_add(1, target.systems, rows)
        return (sums[0] / sums[1].clamp(min=1.0)).sum(), (sums[1] > 0.0).double().sum()


def _row_sums(values: torch.Tensor) -> torch.Tensor:
    return values.flatten(1).sum(dim=1) if values.dim() > 1 else values


class _Absolute(Loss):
    def values(
        self, pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        del natoms
        return (pred - target).abs()


class _Squared(Loss):
    def values(
        self, pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        del natoms
        return (pred - target) ** 2


class EnergyPerAtomMAE(Loss):
    """``|E - E'| / n``."""

    property, name = "energy", "per_atom_mae"

    def values(
        self, pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        """Return ``[R]``."""
        return (pred - target).abs() / natoms


class EnergyPerAtomMSE(Loss):
    """``((E - E') / n)^2``."""

    property, name = "energy", "per_atom_mse"

    def values(
        self, pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        """Return ``[R]``."""
        return ((pred - target) / natoms) ** 2


class EnergyMAE(_Absolute):
    """``|E - E'|``."""

    property, name = "energy", "mae"


class EnergyMSE(_Squared):
    """``(E - E')^2``."""

    property, name = "energy", "mse"


class _Huber(Loss):
    """Quadratic below ``delta``, linear above (Huber, Ann. Math. Statist. 35, 73, 1964).

    ``d^2 / 2`` for ``|d| <= delta``, else ``delta (|d| - delta / 2)``.

    Args:
        coefficient: Weight in the total loss.
        reduction: See :class:`Loss`.
        delta: In normalized units (those of forces are the force RMS).
    """

    def __init__(
        self, coefficient: float = 1.0, reduction: str = "mean", delta: float = 0.01
    ) -> None:
        super().__init__(coefficient, reduction)
        if not delta > 0.0:
            raise ConfigError(f"Huber delta is {delta}", expected="a positive number")
        self.delta = float(delta)

    def values(
        self, pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        del natoms
        error = (pred - target).abs()
        linear = self.delta * (error - 0.5 * self.delta)
        return torch.where(error <= self.delta, 0.5 * error**2, linear)


class EnergyHuber(_Huber):
    """Huber loss of the energy per atom, ``d = (E - E') / n``."""

    property, name = "energy", "huber"

    def values(
        self, pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        """Return ``[R]``."""
        return super().values(pred / natoms, target / natoms, natoms)


class _Length(Loss):
    whole_rows = True

    def values(
        self, pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        del natoms
        length: torch.Tensor = torch.linalg.vector_norm((pred - target).flatten(1), dim=-1)
        return length


class ForcesL2Norm(_Length):
    """``|F - F'|``, the length of the error vector of each atom."""

    property, name = "forces", "l2norm"


class ForcesHuber(_Huber):
    """Huber loss of each component, ``d = F - F'``."""

    property, name = "forces", "huber"


class ForcesMAE(_Absolute):
    """``|F - F'|`` of each component."""

    property, name = "forces", "mae"


class ForcesMSE(_Squared):
    """``(F - F')^2`` of each component."""

    property, name = "forces", "mse"


class StressMAE(_Absolute):
    """``|s - s'|`` of each of the nine components."""

    property, name = "stress", "mae"


class StressMSE(_Squared):
    """``(s - s')^2`` of each of the nine components."""

    property, name = "stress", "mse"


class StressL2Norm(_Length):
    """The Frobenius norm of ``s - s'`` of each system."""

    property, name = "stress", "l2norm"


class StressHuber(_Huber):
    """Huber loss of each component, ``d = s - s'``."""

    property, name = "stress", "huber"


_CLASSES: tuple[type[Loss], ...] = (
    EnergyPerAtomMAE,
    EnergyPerAtomMSE,
    EnergyMAE,
    EnergyMSE,
    EnergyHuber,
    ForcesL2Norm,
    ForcesMAE,
    ForcesMSE,
    ForcesHuber,
    StressL2Norm,
    StressMAE,
    StressMSE,
    StressHuber,
)

#: Property to name to class.
LOSSES: dict[str, dict[str, type[Loss]]] = {
    prop: {loss.name: loss for loss in _CLASSES if loss.property == prop}
    for prop in ("energy", "forces", "stress")
}
LOSSES["relaxed_energy"] = LOSSES["energy"]


def build_loss(prop: str, spec: Mapping[str, Any]) -> Loss:
    """Make a loss from its description.

    Args:
        prop: ``"energy"``, ``"forces"``, ``"stress"`` or ``"relaxed_energy"`` (whose losses are
            those of the energy).
        spec: ``name`` and the arguments of that class, such as
            ``{"name": "huber", "coefficient": 20.0, "reduction": "mean", "delta": 0.02}``.

    Raises:
        UnknownNameError: If the property, the name or an argument is unknown.
        ConfigError: If the name is missing or an argument is out of range.
    """
    if prop not in LOSSES:
        raise unknown_name("property with a loss", prop, LOSSES)
    known = LOSSES[prop]
    arguments = dict(spec)
    name = arguments.pop("name", None)
    if name is None:
        raise ConfigError(
            f"The loss of {prop} has no name", expected=f"name: one of {', '.join(sorted(known))}"
        )
    if name not in known:
        raise unknown_name(f"loss of {prop}", str(name), known)
    accepted = list(inspect.signature(known[name].__init__).parameters)[1:]
    for key, value in arguments.items():
        if key not in accepted:
            raise unknown_name(f"argument of loss {name!r}", str(key), accepted)
        if key == "reduction":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{key} of the loss of {prop} is {value!r}", expected="a number")
    return known[name](**arguments)
