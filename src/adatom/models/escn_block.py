"""One layer of the eSCN-MD backbone."""

from __future__ import annotations

import torch
from torch import nn

from adatom.core.errors import unknown_name
from adatom.models.base import Neighborhood
from adatom.nn.feed_forward import GridFeedForward, SpectralFeedForward
from adatom.nn.geometry import EdgeGeometry
from adatom.nn.layout import CoefficientLayout
from adatom.nn.message_passing import Edgewise
from adatom.nn.norms import build_norm

#: Size of the initial update by the network on each atom, relative to its input.
_UPDATE_GAIN = 0.5


class EscnBlock(nn.Module):
    """Messages over edges, then a network on each atom; both are residual updates.

    Args:
        layout: Degrees and orders.
        channels: C.
        hidden_channels: H.
        radial: ``(num_basis, edge_channels)``.
        norm_type: See :mod:`adatom.nn.norms`.
        act_type: ``"gate"`` or ``"s2"``.
        ff_type: ``"spectral"`` or ``"grid"``.
        num_experts: X; 0 makes plain layers.
        grid_resolution: Size of the grids over the sphere, or None for the default.

    Raises:
        UnknownNameError: If one of the types is not known.
    """

    def __init__(
        self,
        layout: CoefficientLayout,
        channels: int,
        hidden_channels: int,
        *,
        radial: tuple[int, int],
        norm_type: str,
        act_type: str,
        ff_type: str,
        num_experts: int,
        grid_resolution: int | None,
    ) -> None:
        super().__init__()
        self.norm_1 = build_norm(norm_type, channels, layout.lmax)
        self.edge_wise = Edgewise(
            layout,
            channels,
            hidden_channels,
            radial=radial,
            act_type=act_type,
            num_experts=num_experts,
            grid_resolution=grid_resolution,
        )
        self.norm_2 = build_norm(norm_type, channels, layout.lmax)
        self.atom_wise: SpectralFeedForward | GridFeedForward
        if ff_type == "spectral":
            self.atom_wise = SpectralFeedForward(
                channels, hidden_channels, layout.lmax, gain=_UPDATE_GAIN
            )
        elif ff_type == "grid":
            self.atom_wise = GridFeedForward(
                channels,
                hidden_channels,
                layout.lmax,
                resolution=grid_resolution,
                gain=_UPDATE_GAIN,
            )
        else:
            raise unknown_name("ff_type", ff_type, ("spectral", "grid"))

    def forward(
        self,
        features: torch.Tensor,
        system: torch.Tensor,
        edges: Neighborhood,
        geometry: EdgeGeometry,
        coefficients: torch.Tensor | None,
    ) -> torch.Tensor:
        """Update node features.

        Args:
            features: ``[N, S, C]``.
            system: ``[N, C]`` embedding of each atom's system, added to the invariants.
            edges: The edges of this layer.
            geometry: Of the same edges.
            coefficients: ``[G, X]`` expert coefficients, or None without experts.

        Returns:
            ``[N, S, C]``, of the atoms that :meth:`Neighborhood.kept` keeps.
        """
        normed = edges.extended(self.normed(features, system))
        messages = self.edge_wise(normed, geometry, coefficients)
        return self.update_atoms(edges.kept(features) + messages)

    def normed(self, features: torch.Tensor, system: torch.Tensor) -> torch.Tensor:
        """Return what messages are made from, ``[N, S, C]``."""
        normed = self.norm_1(features)
        return torch.cat([normed[:, :1] + system.unsqueeze(1), normed[:, 1:]], dim=1)

    def update_atoms(self, features: torch.Tensor) -> torch.Tensor:
        """Add the network on each atom to features with messages, ``[N, S, C]``."""
        updated: torch.Tensor = features + self.atom_wise(self.norm_2(features))
        return updated
