"""Linear maps of node features, one matrix per degree."""

from __future__ import annotations

import torch
from torch import nn

from adatom.nn.initialization import fill_normal


class SO3Linear(nn.Module):
    """Mix channels with one matrix per degree; a bias acts on degree 0.

    Args:
        in_channels: Channels per input row.
        out_channels: Channels per output row.
        lmax: Highest degree.
        gain: Standard deviation of the output for unit-variance input.
    """

    def __init__(
        self, in_channels: int, out_channels: int, lmax: int, *, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(lmax + 1, out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        fill_normal(self.weight, in_channels, gain)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map ``[N, (lmax + 1)^2, in_channels]`` to ``[N, (lmax + 1)^2, out_channels]``."""
        sizes = [2 * degree + 1 for degree in range(self.weight.shape[0])]
        pieces = [
            # Flattened first: one product, where a strided view would give one per atom.
            nn.functional.linear(
                rows.reshape(-1, rows.shape[2]),
                self.weight[degree],
                self.bias if degree == 0 else None,
            ).view(rows.shape[0], rows.shape[1], self.weight.shape[1])
            for degree, rows in enumerate(torch.split(features, sizes, dim=1))
        ]
        return torch.cat(pieces, dim=1)
