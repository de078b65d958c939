"""What is predicted: one property of one or several datasets, and the units around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from adatom.core.errors import ConfigError


@dataclass(slots=True, frozen=True)
class OutputSpec:
    """Shape of one row of a property, and its dtype name.

    Attributes:
        dim: Shape without the system or atom axis: energy ``(1,)``, forces ``(3,)``, stress
            ``(3, 3)``.
        dtype: A torch attribute name, such as ``"float32"``.
    """

    dim: tuple[int, ...]
    dtype: str = "float32"


@dataclass(slots=True, frozen=True)
class Normalizer:
    """``physical = network * rmsd + mean``; units are those of the property."""

    mean: float = 0.0
    rmsd: float = 1.0

    def __post_init__(self) -> None:
        """Refuse scales that would divide by zero or flip signs."""
        if not self.rmsd > 0.0:
            raise ConfigError(f"Normalizer rmsd is {self.rmsd}", expected="a positive number")

    def norm(self, value: torch.Tensor) -> torch.Tensor:
        """Convert from physical units to the network's."""
        return (value - self.mean) / self.rmsd

    def denorm(self, value: torch.Tensor) -> torch.Tensor:
        """Convert from the network's units to physical ones."""
        return value * self.rmsd + self.mean


@dataclass(slots=True)
class Task:
    """One property of one or several datasets.

    Attributes:
        name: Unique, such as ``"omol_energy"``.
        level: ``"system"`` or ``"atom"``.
        property: ``"energy"``, ``"forces"``, ``"stress"``, or ``"relaxed_energy"``: of the
            structure that a relaxation of this one ends in.
        out_spec: Row shape and dtype.
        normalizer: Between network and physical units.
        datasets: Names of the datasets that this task serves.
        loss_fn: ``{"name": ..., "coefficient": ..., ...}`` or None; see ``adatom.tasks.losses``.
        element_references: ``[Zmax + 1]`` float64 eV per atom, indexed by Z, added to the
            denormalized energy; None for other properties.
        metrics: Names; see ``adatom.tasks.metrics``.
        train_on_free_atoms: Leave fixed atoms out of the loss.
        eval_on_free_atoms: Leave fixed atoms out of the metrics.
        inference_only: Predicted but never trained.
    """

    name: str
    level: Literal["system", "atom"]
    property: str
    out_spec: OutputSpec
    normalizer: Normalizer
    datasets: list[str]
    loss_fn: dict[str, Any] | None = None
    element_references: torch.Tensor | None = None
    metrics: list[str] = field(default_factory=list)
    train_on_free_atoms: bool = True
    eval_on_free_atoms: bool = True
    inference_only: bool = False
