"""Linear maps that commute with rotations about the edge (SO(2) convolutions).

In the edge frame, a rotation about the edge mixes only the components +m and -m of one order, so
an equivariant linear map acts like a complex matrix on each order (Passaro and Zitnick, eSCN,
ICML 2023, section 3.2).
"""

from __future__ import annotations

import torch
from torch import nn

from adatom.nn.experts import MixedLinear, Mixture, grouped_linear
from adatom.nn.layout import CoefficientLayout
from adatom.nn.radial import RadialInputs, RadialMLP


class SO2Order(nn.Module):
    """The complex map of one order m >= 1, stored as ``[A; B]`` stacked over outputs.

    Args:
        in_features: Degrees of this order times input channels.
        out_features: Degrees of this order times output channels.
        num_experts: X; 0 makes a plain layer.
        gain: Standard deviation of the output for unit-variance input.
    """

    def __init__(
        self, in_features: int, out_features: int, *, num_experts: int, gain: float
    ) -> None:
        super().__init__()
        self.fc = MixedLinear(
            in_features,
            2 * out_features,
            num_experts=num_experts,
            bias=False,
            gain=gain * 0.5**0.5,
        )

    def real_matrix(self, coefficients: torch.Tensor | None) -> torch.Tensor:
        """Return ``[[A, -B], [B, A]]`` of each group, ``[G, 2 out, 2 in]``."""
        a, b = self.fc.merged(coefficients).chunk(2, dim=1)
        return torch.cat([torch.cat([a, -b], dim=2), torch.cat([b, a], dim=2)], dim=1)


class SO2Convolution(nn.Module):
    """One linear map per order on m-major edge features.

    Args:
        layout: Degrees and orders.
        in_channels: Channels per input row.
        out_channels: Channels per output row.
        extra: Additional invariant outputs (gate scalars).
        radial: ``(num_basis, edge_channels)`` of a radial network that multiplies the inputs, or
            None.
        num_experts: X; 0 makes plain layers.
        gain: Standard deviation of the output for unit-variance input.
    """

    def __init__(
        self,
        layout: CoefficientLayout,
        in_channels: int,
        out_channels: int,
        *,
        extra: int = 0,
        radial: tuple[int, int] | None = None,
        num_experts: int = 0,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.extra = extra
        self.out_channels = out_channels
        degrees = [layout.degrees_of_order(m) for m in range(layout.mmax + 1)]
        self.in_sizes = [size * in_channels for size in layout.order_sizes]
        self.radial_sizes = [size * in_channels for size in degrees]
        self.out_rows = layout.edge_size
        self.fc_m0 = MixedLinear(
            degrees[0] * in_channels,
            extra + degrees[0] * out_channels,
            num_experts=num_experts,
            gain=gain,
        )
        self.so2_m_conv = nn.ModuleList(
            SO2Order(size * in_channels, size * out_channels, num_experts=num_experts, gain=gain)
            for size in degrees[1:]
        )
        self.rad_func = RadialMLP(*radial, sum(self.radial_sizes)) if radial else None

    def forward(
        self, features: torch.Tensor, mixture: Mixture, radial: RadialInputs | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Convolve edge features.

        Args:
            features: ``[E, R, in_channels]`` in the edge frame, m-major.
            mixture: Expert coefficients and the edges they apply to.
            radial: Inputs of the radial network; needed if the layer has one.

        Returns:
            ``[E, R, out_channels]`` and the extra invariants ``[E, extra]``.
        """
        orders = list(features.flatten(1).split(self.in_sizes, dim=1))
        if self.rad_func is not None and radial is not None:
            weights = self.rad_func(radial).split(self.radial_sizes, dim=1)
            orders = [
                _weighted(x, w, m) for m, (x, w) in enumerate(zip(orders, weights, strict=True))
            ]
        coefficients, runs = mixture
        first = grouped_linear(orders[0], self.fc_m0.merged(coefficients), self.fc_m0.bias, runs)
        extra, scalars = first.split([self.extra, first.shape[1] - self.extra], dim=1)
        outputs = [scalars]
        for order, rows in zip(self.so2_m_conv, orders[1:], strict=True):
            outputs.append(grouped_linear(rows, order.real_matrix(coefficients), None, runs))
        joined = torch.cat(outputs, dim=1)
        return joined.unflatten(1, (self.out_rows, self.out_channels)), extra


def _weighted(features: torch.Tensor, weights: torch.Tensor, m: int) -> torch.Tensor:
    """Multiply both signs of an order by the same weights."""
    if m == 0:
        return features * weights
    return (features.unflatten(1, (2, -1)) * weights.unsqueeze(1)).flatten(1)
