"""Trained vectors of the elements."""

from __future__ import annotations

import torch
from torch import nn

from adatom.core.errors import DataError
from adatom.core.traced_input import traced_input


class ElementEmbedding(nn.Embedding):
    """One trained vector per atomic number.

    Args:
        max_num_elements: Atomic numbers must be below this.
        channels: C.
    """

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Look up atomic numbers ``[N]``, giving ``[N, C]``.

        Raises:
            DataError: If a number is not from 1 to ``max_num_elements - 1``.
        """
        outside = (numbers < 1) | (numbers >= self.num_embeddings)
        if traced_input() is None and bool(outside.any()):
            atom = int(outside.nonzero()[0])
            raise DataError(
                f"Atom {atom} of the batch has atomic number {int(numbers[atom])}",
                expected=f"1 to {self.num_embeddings - 1}",
            )
        found: torch.Tensor = super().forward(numbers)
        return found
