"""Losses: one small class each, chosen by name.

A loss sees only rows that count. Rows without a label and atoms that are held fixed are dropped by
indexing before anything is computed, so that a NaN there can reach neither the value nor the
gradient (NaN times zero is NaN).
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from adatom.core.errors import ConfigError, unknown_name


class Loss(ABC):
    """One value per row; the loss is ``coefficient`` times their mean.

    Args:
        coefficient: Weight in the total loss.

    Attributes:
        property: Property it is made for.
        name: Name within that property.
    """

    property: ClassVar[str]
    name: ClassVar[str]

    def __init__(self, coefficient: float = 1.0) -> None:
        if not coefficient >= 0.0:
            raise ConfigError(
                f"The coefficient of loss {self.name!r} of {self.property} is {coefficient}",
                expected="a number that is not negative",
            )
        self.coefficient = float(coefficient)

    @abstractmethod
    def values(
        self, pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of each element or row.

        Args:
            pred: ``[R]`` energies, ``[R, 3]`` forces or ``[R, 3, 3]`` stresses, normalized.
            target: Same shape.
            natoms: ``[R]`` atoms of each row's system.
        """

    def sum_and_count(
        self,
        pred: torch.Tensor,
        target: torch.Tensor,
        natoms: torch.Tensor,
        mask: torch.Tensor,
    ) -> tuple[torch.Tensor, int]:
        """Return the weighted sum over the rows of ``mask`` and the number of values in it.

        The mean over any number of batches is the sum of sums over the sum of counts.

        Args:
            pred: Normalized predictions; rows outside ``mask`` may hold anything.
            target: Normalized labels of the same shape.
            natoms: ``[R]`` atoms of each row's system.
            mask: ``[R]`` bool.
        """
        values = self.values(pred[mask], target[mask].to(pred.dtype), natoms[mask])
        return self.coefficient * values.sum(), values.numel()


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


class EnergyHuber(Loss):
    """Huber loss of the energy per atom: quadratic below ``delta``, linear above.

    ``d^2 / 2`` for ``|d| <= delta``, else ``delta (|d| - delta / 2)`` with ``d = (E - E') / n``
    (Huber, Ann. Math. Statist. 35, 73, 1964).

    Args:
        coefficient: Weight in the total loss.
        delta: In normalized units (that is, in units of the force RMS times angstrom).
    """

    property, name = "energy", "huber"

    def __init__(self, coefficient: float = 1.0, delta: float = 0.01) -> None:
        super().__init__(coefficient)
        if not delta > 0.0:
            raise ConfigError(f"Huber delta is {delta}", expected="a positive number")
        self.delta = float(delta)

    def values(
        self, pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        """Return ``[R]``."""
        error = ((pred - target) / natoms).abs()
        linear = self.delta * (error - 0.5 * self.delta)
        return torch.where(error <= self.delta, 0.5 * error**2, linear)


class ForcesL2Norm(Loss):
    """``|F - F'|``, the length of the error vector of each atom."""

    property, name = "forces", "l2norm"

    def values(
        self, pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        """Return ``[R]``; the gradient of an exact prediction is zero."""
        del natoms
        length: torch.Tensor = torch.linalg.vector_norm(pred - target, dim=-1)
        return length


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


_CLASSES: tuple[type[Loss], ...] = (
    EnergyPerAtomMAE,
    EnergyPerAtomMSE,
    EnergyMAE,
    EnergyMSE,
    EnergyHuber,
    ForcesL2Norm,
    ForcesMAE,
    ForcesMSE,
    StressMAE,
    StressMSE,
)

#: Property to name to class.
LOSSES: dict[str, dict[str, type[Loss]]] = {
    prop: {loss.name: loss for loss in _CLASSES if loss.property == prop}
    for prop in ("energy", "forces", "stress")
}


def build_loss(prop: str, spec: Mapping[str, Any]) -> Loss:
    """Make a loss from its description.

    Args:
        prop: ``"energy"``, ``"forces"`` or ``"stress"``.
        spec: ``name`` and the arguments of that class, such as
            ``{"name": "huber", "coefficient": 20.0, "delta": 0.02}``.

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
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{key} of the loss of {prop} is {value!r}", expected="a number")
    return known[name](**arguments)
