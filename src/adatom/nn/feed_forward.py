"""Nonlinear maps of each atom's own features."""

from __future__ import annotations

import torch
from torch import nn

from adatom.nn.activations import GateActivation
from adatom.nn.initialization import AFTER_SILU, linear
from adatom.nn.layout import CoefficientLayout
from adatom.nn.s2_grid import grid_matrices
from adatom.nn.so3 import SO3Linear


class SpectralFeedForward(nn.Module):
    """Linear per degree, gate, linear per degree; gates from the invariants.

    The gates are ``sigmoid(SiLU(linear(invariants)))``.

    Args:
        channels: C.
        hidden_channels: H.
        lmax: Highest degree.
        gain: Standard deviation of the output at the start.
    """

    def __init__(
        self, channels: int, hidden_channels: int, lmax: int, *, gain: float = 1.0
    ) -> None:
        super().__init__()
        layout = CoefficientLayout(lmax, lmax)
        self.scalar_mlp: nn.Sequential | None = None
        if lmax:
            self.scalar_mlp = nn.Sequential(linear(channels, lmax * hidden_channels), nn.SiLU())
        self.so3_linear_1 = SO3Linear(channels, hidden_channels, lmax)
        self.act = GateActivation(layout.node_degrees, hidden_channels)
        self.so3_linear_2 = SO3Linear(hidden_channels, channels, lmax, gain=gain * AFTER_SILU)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map ``[N, S, C]`` to ``[N, S, C]``."""
        scalars = features[:, 0]
        gates = scalars[:, :0] if self.scalar_mlp is None else self.scalar_mlp(scalars)
        hidden = self.act(self.so3_linear_1(features), gates)
        out: torch.Tensor = self.so3_linear_2(hidden)
        return out


class GridFeedForward(nn.Module):
    """A network without biases at each point of a grid over the sphere.

    Args:
        channels: C.
        hidden_channels: H.
        lmax: Highest degree.
        resolution: Grid size, or None for the default.
        gain: Standard deviation of the output at the start.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        lmax: int,
        *,
        resolution: int | None = None,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.layout = CoefficientLayout(lmax, lmax)
        self.resolution = resolution
        self.grid_mlp = nn.Sequential(
            linear(channels, hidden_channels, bias=False),
            nn.SiLU(),
            linear(hidden_channels, hidden_channels, bias=False, gain=AFTER_SILU),
            nn.SiLU(),
            linear(hidden_channels, channels, bias=False, gain=gain * AFTER_SILU),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map ``[N, S, C]`` to ``[N, S, C]``."""
        to_grid, from_grid = grid_matrices(
            self.layout, self.resolution, features.dtype, features.device
        )
        order = torch.argsort(self.layout.edge_rows).to(features.device)
        on_grid = torch.matmul(to_grid[:, order], features)
        return torch.matmul(from_grid[order], self.grid_mlp(on_grid))
