"""Further outputs of a predict unit: one protocol, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import torch

from adatom.data.atomic_data import AtomicData
from adatom.tasks.potential import Potential


class ExtraOutput(Protocol):
    """Computes a property that a potential does not have itself, such as an uncertainty.

    Attributes:
        level: Whether it has one row per ``"system"`` or per ``"atom"``.
    """

    level: Literal["system", "atom"]

    def __call__(
        self, potential: Potential, batch: AtomicData, predicted: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the rows for a batch.

        Args:
            potential: What computed the batch.
            batch: With edges, on the device of the potential.
            predicted: What was predicted for it, in physical units.
        """
