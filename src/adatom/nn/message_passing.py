"""Sums of rotated, convolved messages over the edges into each atom."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from adatom.core.errors import unknown_name
from adatom.nn.activations import OrderGateActivation, SeparableS2Activation
from adatom.nn.experts import Mixture
from adatom.nn.frozen_convolution import FrozenConvolution
from adatom.nn.frozen_radial import FrozenRadial
from adatom.nn.geometry import EdgeGeometry, ElementTypes
from adatom.nn.initialization import AFTER_SILU
from adatom.nn.layout import CoefficientLayout
from adatom.nn.radial import RadialMLP
from adatom.nn.so2 import SO2Convolution, SummedSO2Convolution
from adatom.nn.tiled_degrees import TiledDegrees
from adatom.nn.tiled_edges import TiledEdges

#: Fixed divisor of the edge-degree sum in the published models.
DEGREE_RESCALE = 5.0
#: Makes the initial sum over a typical neighborhood (6 angstrom, a dense solid) of order one.
_SUM_GAIN = 0.1


class EdgeDegreeEmbedding(nn.Module):
    """First features of each atom from distances and elements of its neighbors.

    Args:
        layout: Degrees and orders.
        channels: C.
        num_basis: K.
        edge_channels: Ce.
    """

    def __init__(
        self, layout: CoefficientLayout, channels: int, num_basis: int, edge_channels: int
    ) -> None:
        super().__init__()
        self.rows = layout.lmax + 1
        #: What it needs of rotations: a sum about the edge has order 0 only.
        self.layout = CoefficientLayout(layout.lmax, 0)
        self.channels = channels
        self.rad_func = RadialMLP(num_basis, edge_channels, self.rows * channels)

    def forward(self, geometry: EdgeGeometry) -> torch.Tensor:
        """Return ``[N, S, C]``."""
        messages = geometry.chunks.gather(self.rad_func(geometry.radial))
        degrees = [
            torch.bmm(
                geometry.returns[0][:, degree**2 : (degree + 1) ** 2],
                messages[:, :, degree * self.channels : (degree + 1) * self.channels],
            )
            for degree in range(self.rows)
        ]
        return geometry.chunks.sum_to_atoms(torch.cat(degrees, dim=1)) / DEGREE_RESCALE

    def tiled(self, types: ElementTypes, edges: TiledEdges) -> TiledDegrees:
        """Return the same in tiles, for frozen weights."""
        return TiledDegrees(FrozenRadial(self.rad_func, types), edges, 1 / DEGREE_RESCALE)


class Edgewise(nn.Module):
    """Rotate both atoms of each edge, convolve, activate, convolve, rotate back and sum.

    Args:
        layout: Degrees and orders.
        channels: C.
        hidden_channels: H.
        radial: ``(num_basis, edge_channels)``.
        act_type: ``"gate"`` or ``"s2"``.
        num_experts: X; 0 makes plain layers.
        grid_resolution: Grid size of ``"s2"``, or None for the default.

    Raises:
        UnknownNameError: If ``act_type`` is not known.
    """

    def __init__(
        self,
        layout: CoefficientLayout,
        channels: int,
        hidden_channels: int,
        *,
        radial: tuple[int, int],
        act_type: str = "gate",
        num_experts: int = 0,
        grid_resolution: int | None = None,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.act: OrderGateActivation | SeparableS2Activation
        if act_type == "gate":
            self.act = OrderGateActivation(layout, hidden_channels)
        elif act_type == "s2":
            self.act = SeparableS2Activation(layout, hidden_channels, grid_resolution)
        else:
            raise unknown_name("act_type", act_type, ("gate", "s2"))
        self.so2_conv_1 = SO2Convolution(
            layout,
            channels,
            hidden_channels,
            extra=self.act.num_gates,
            radial=radial,
            num_experts=num_experts,
        )
        self.so2_conv_2 = SummedSO2Convolution(
            layout,
            hidden_channels,
            channels,
            num_experts=num_experts,
            gain=_SUM_GAIN * AFTER_SILU,
        )

    def forward(
        self, features: torch.Tensor, geometry: EdgeGeometry, coefficients: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the summed messages.

        Args:
            features: ``[N, S, C]``.
            geometry: The edges of this layer.
            coefficients: ``[G, X]`` expert coefficients, or None without experts.

        Returns:
            ``[N, S, C]``.
        """
        edges = Mixture(coefficients, geometry.edge_runs)
        rotated = [
            torch.bmm(geometry.rotations, features.index_select(0, atoms))
            for atoms in (geometry.source, geometry.target)
        ]
        hidden = self.so2_conv_1.rad_func.hidden(geometry.radial)
        mapped, gates = self.so2_conv_1(rotated, edges, hidden)
        sums = self.so2_conv_2.sums(self.act(mapped, gates), geometry.returns, geometry.chunks)
        messages: torch.Tensor = self.so2_conv_2(
            sums, geometry, Mixture(coefficients, geometry.atom_runs)
        )
        return messages

    def frozen(self, coefficients: torch.Tensor | None, types: ElementTypes) -> FrozenConvolution:
        """Return both convolutions in the form of tiles; only for gates, and without gradients.

        Args:
            coefficients: ``[G, X]`` expert coefficients, or None without experts.
            types: The elements of the batch.
        """
        first, second = self.so2_conv_1, self.so2_conv_2
        bias = second.fc_m0.bias
        return FrozenConvolution(
            self.layout,
            first.in_channels,
            self.act.channels,
            *first.three_products(coefficients),
            cast("nn.Parameter", first.fc_m0.bias),
            FrozenRadial(first.rad_func, types, first.radial_last()),
            second.degree_matrices(coefficients),
            cast("nn.Parameter", bias).view(-1, second.out_channels),
        )
