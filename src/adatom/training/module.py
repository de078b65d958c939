"""The Lightning modules by name, and the preset for energies, forces and stress."""

from __future__ import annotations

from typing import Any

from adatom.models.base import Backbone, Head
from adatom.training.eval_unit import MLIPEvalUnit
from adatom.training.step_loss import LossMean
from adatom.training.train_unit import MLIPTrainEvalUnit

__all__ = ["MLIPEvalUnit", "MLIPTrainEvalUnit", "S2EFLightningModule"]


class S2EFLightningModule(MLIPTrainEvalUnit):
    """Structure to energy and forces (and stress) of every dataset, each structure weighing alike.

    Args:
        backbone: The network.
        head: From its features to energies; null makes an ``EnergyHead``.
        losses: From ``energy``, ``forces``, ``stress`` to ``{name, coefficient, ...}``; null takes
            the usual ones.
        loss_mean: See :class:`MLIPTrainEvalUnit`.
        **options: The others of :class:`MLIPTrainEvalUnit`.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head | None = None,
        *,
        losses: dict[str, dict[str, Any]] | None = None,
        loss_mean: LossMean = "property",
        **options: Any,
    ) -> None:
        super().__init__(
            backbone, head, losses=losses, loss_mean=loss_mean, potential=None, **options
        )
