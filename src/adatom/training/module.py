"""The Lightning modules by name, and the preset for energies, forces and stress."""

from __future__ import annotations

from typing import Any

from adatom.core.errors import ConfigError
from adatom.models.base import Backbone, Head
from adatom.training.eval_unit import MLIPEvalUnit
from adatom.training.start_from import StartFrom, load_start
from adatom.training.step_loss import LossMean
from adatom.training.train_unit import MLIPTrainEvalUnit

__all__ = ["MLIPEvalUnit", "MLIPTrainEvalUnit", "S2EFLightningModule"]


class S2EFLightningModule(MLIPTrainEvalUnit):
    """Structure to energy and forces (and stress) of every dataset, each structure weighing alike.

    Args:
        backbone: The network of a new potential.
        head: From its features to energies, and to forces or stress that are predicted directly;
            null makes an ``EnergyHead``.
        start_from: A trained potential instead of a new one, or only its path.
        losses: From ``energy``, ``forces``, ``stress`` to ``{name, coefficient, ...}``; null takes
            the usual ones.
        loss_mean: See :class:`MLIPTrainEvalUnit`.
        **options: The others of :class:`MLIPTrainEvalUnit`.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        head: Head | None = None,
        *,
        start_from: str | StartFrom | None = None,
        losses: dict[str, dict[str, Any]] | None = None,
        loss_mean: LossMean = "property",
        **options: Any,
    ) -> None:
        if (backbone is None) == (start_from is None):
            found = "neither backbone nor start_from" if backbone is None else "both of them"
            raise ConfigError(
                f"The model has {found}",
                expected="a backbone for a new potential, or start_from for a trained one",
            )
        if isinstance(start_from, str):
            start_from = StartFrom(checkpoint=start_from)
        potential = None if start_from is None else load_start(start_from)
        super().__init__(
            backbone, head, losses=losses, loss_mean=loss_mean, potential=potential, **options
        )
