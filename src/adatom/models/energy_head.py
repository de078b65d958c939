"""Per-atom energies from the invariant features."""

from __future__ import annotations

from typing import Literal

import torch

from adatom.core.errors import unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Head, NodeFeatures
from adatom.models.readout import ScalarReadout

#: The choices of ``reduce``.
REDUCTIONS = ("sum", "mean")


class EnergyHead(Head):
    """A network on each atom's scalars.

    Args:
        num_channels: C of the backbone.
        hidden_channels: H of a network of three layers; None makes it one linear layer.
        dataset_mapping: If given, from each dataset name to the name of the level of theory that
            it is computed with; each level has its own weight matrices (biases are shared), in
            the order of the sorted level names.
        reduce: Whether a system's energy is the sum or the mean over its atoms. As in the
            published models, forces and stress are derivatives of the sum in both cases.

    Raises:
        UnknownNameError: If ``reduce`` is not known.
    """

    def __init__(
        self,
        num_channels: int,
        hidden_channels: int | None,
        dataset_mapping: dict[str, str] | None = None,
        reduce: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__()
        if reduce not in REDUCTIONS:
            raise unknown_name("reduce", reduce, REDUCTIONS)
        self.mean_energy = reduce == "mean"
        self.energy_block = ScalarReadout(num_channels, hidden_channels, dataset_mapping)

    def forward(self, features: NodeFeatures, data: AtomicData) -> dict[str, torch.Tensor]:
        """Return per-atom ``energies [N]`` in network units.

        Raises:
            UnknownNameError: If a system's dataset is not in ``dataset_mapping``.
        """
        return {"energies": self.energy_block.read(features.scalars, data)}
