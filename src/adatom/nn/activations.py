"""Equivariant nonlinearities."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from adatom.nn.layout import CoefficientLayout
from adatom.nn.s2_grid import grid_matrices


class GateActivation(nn.Module):
    """SiLU on degree 0; every other degree times the sigmoid of its own gate scalars.

    Args:
        degrees: ``[R]`` int64; degree of each row, the first of which is the only invariant.
        channels: H.
    """

    degrees: torch.Tensor

    def __init__(self, degrees: torch.Tensor, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.num_gates = int(degrees.max()) * channels
        self.register_buffer("degrees", degrees, persistent=False)

    def forward(self, features: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        """Apply the gates.

        Args:
            features: ``[E, R, H]``.
            gates: ``[E, lmax * H]`` before the sigmoid, degree 1 first.
        """
        scalars = functional.silu(features[:, :1])
        if not self.num_gates:
            return scalars
        factors = torch.sigmoid(gates).view(gates.shape[0], -1, self.channels)
        higher = features[:, 1:] * factors.index_select(1, self.degrees[1:] - 1)
        return torch.cat([scalars, higher], dim=1)


class SeparableS2Activation(nn.Module):
    """SiLU of own scalars on degree 0; all other rows through SiLU on a grid over the sphere.

    Args:
        layout: Rows are those of the edges (m-major).
        channels: H.
        resolution: Grid size, or None for the default.
    """

    def __init__(
        self, layout: CoefficientLayout, channels: int, resolution: int | None = None
    ) -> None:
        super().__init__()
        self.layout = layout
        self.resolution = resolution
        self.num_gates = channels

    def forward(self, features: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        """Apply the activation.

        Args:
            features: ``[E, R, H]``.
            gates: ``[E, H]`` scalars that replace degree 0.
        """
        to_grid, from_grid = grid_matrices(
            self.layout, self.resolution, features.dtype, features.device
        )
        on_grid = functional.silu(torch.matmul(to_grid, features))
        back = torch.matmul(from_grid[1:], on_grid)
        return torch.cat([functional.silu(gates).unsqueeze(1), back], dim=1)
