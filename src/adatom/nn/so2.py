"""Linear maps that commute with rotations about the edge (SO(2) convolutions).

In the edge frame, a rotation about the edge mixes only the components +m and -m of one order, so
an equivariant linear map acts like a complex matrix on each order (Passaro and Zitnick, eSCN,
ICML 2023, section 3.2). Edge features are kept as one tensor per order m: ``[E, n C]`` for m = 0
and ``[E, 2 n C]`` (all +m rows, then all -m rows) for m >= 1, with n = lmax + 1 - m degrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from adatom.nn.experts import MixedLinear, Mixture, grouped_linear
from adatom.nn.geometry import EdgeGeometry
from adatom.nn.layout import CoefficientLayout
from adatom.nn.prepared_weights import PreparedWeights
from adatom.nn.radial import RadialMLP
from adatom.nn.target_chunks import TargetChunks


class SO2Order(nn.Module):
    """The complex map A + iB of one order m >= 1, stored as ``[A; B]`` stacked over outputs.

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


class _SO2Maps(nn.Module):
    """The parameters of one convolution: a real map for m = 0, a complex one for each m >= 1."""

    def __init__(
        self,
        layout: CoefficientLayout,
        in_channels: int,
        out_channels: int,
        *,
        extra: int,
        num_experts: int,
        gain: float,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.degrees = [layout.degrees_of_order(m) for m in range(layout.mmax + 1)]
        self.fc_m0 = MixedLinear(
            self.degrees[0] * in_channels,
            extra + self.degrees[0] * out_channels,
            num_experts=num_experts,
            gain=gain,
        )
        self.so2_m_conv = nn.ModuleList(
            SO2Order(n * in_channels, n * out_channels, num_experts=num_experts, gain=gain)
            for n in self.degrees[1:]
        )
        self._prepared: PreparedWeights[list[torch.Tensor]] = PreparedWeights()

    def merged(self, coefficients: torch.Tensor | None) -> list[torch.Tensor]:
        """Return the stored matrix of each order and group, ``[G, out or 2 out, in]``.

        Args:
            coefficients: ``[G, X]`` expert coefficients, or None without experts (G = 1).
        """
        return [layer.merged(coefficients) for layer in self._maps()]

    def _maps(self) -> list[MixedLinear]:
        return [self.fc_m0, *(cast("SO2Order", order).fc for order in self.so2_m_conv)]

    def mapped_weights(self) -> list[torch.Tensor]:
        """Return the trained weights of all orders."""
        return [layer.stored for layer in self._maps()]


class SO2Convolution(_SO2Maps):
    """One map per order on pairs of edge features, multiplied by radial weights first.

    Args:
        layout: Degrees and orders.
        in_channels: Channels of each of the two inputs.
        out_channels: Channels per output row.
        extra: Additional invariant outputs (gate scalars).
        radial: ``(num_basis, edge_channels)`` of the radial network.
        num_experts: X; 0 makes plain layers.
    """

    def __init__(
        self,
        layout: CoefficientLayout,
        in_channels: int,
        out_channels: int,
        *,
        extra: int,
        radial: tuple[int, int],
        num_experts: int = 0,
    ) -> None:
        super().__init__(
            layout,
            2 * in_channels,
            out_channels,
            extra=extra,
            num_experts=num_experts,
            gain=1.0,
        )
        self.extra = extra
        self.in_channels = in_channels
        self.order_sizes = [size * in_channels for size in layout.order_sizes]
        self.weight_sizes = [n * in_channels for n in self.degrees]
        rows = 2 * sum(self.weight_sizes)
        self.rad_func = RadialMLP(*radial, rows)
        # Stored outputs run over (order, degree, input, channel); here each input comes alone.
        stored = torch.arange(rows).view(-1, 2, in_channels)
        self._prepared_radial: PreparedWeights[list[torch.Tensor]] = PreparedWeights()
        self.register_buffer("by_input", stored.transpose(0, 1).flatten(), persistent=False)

    by_input: torch.Tensor

    def forward(
        self, inputs: Sequence[torch.Tensor], mixture: Mixture, hidden: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Convolve edge features.

        Args:
            inputs: Two tensors ``[E, R, in_channels]`` in the edge frame, m-major.
            mixture: Expert coefficients and the edges they apply to.
            hidden: ``[E, Ce]`` last hidden layer of the radial network.

        Returns:
            One tensor per order, and the extra invariants ``[E, extra]``.
        """
        weights = torch.split(
            self.rad_func.last(hidden, self.by_input), 2 * self.weight_sizes, dim=1
        )
        orders = len(self.degrees)
        weighted: list[list[torch.Tensor]] = [[] for _ in range(orders)]
        for i, features in enumerate(inputs):
            pieces = torch.split(features.flatten(1), self.order_sizes, dim=1)
            for m, piece in enumerate(pieces):
                weighted[m].append(_weighted(piece, weights[i * orders + m], m))
        outputs = []
        for m, merged in enumerate(self.merged(mixture.coefficients)):
            bias = self.fc_m0.bias if m == 0 else None
            matrices = self._by_input(merged, m)
            outputs.append(grouped_linear(weighted[m], matrices, bias, mixture.runs))
        width = outputs[0].shape[1] - self.extra
        extra, outputs[0] = torch.split(outputs[0], [self.extra, width], dim=1)
        return outputs, extra

    def three_products(
        self, coefficients: torch.Tensor | None
    ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]:
        """Return the maps on both inputs together as frozen weights use them.

        Inputs run over input, degree and channel; see
        :class:`adatom.nn.frozen_convolution.FrozenConvolution` for the form.
        """

        def make() -> list[torch.Tensor]:
            maps = self.merged(coefficients)
            first, *others = [torch.cat(self._halves(matrix), dim=2) for matrix in maps]
            halves = [matrix.chunk(2, dim=1) for matrix in others]
            return [first, *(x for a, b in halves for x in (a.contiguous(), a + b, b - a))]

        first, *rest = self._prepared.get(self.mapped_weights(), coefficients, make)
        triples = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        return first, list(triples)

    def radial_last(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return weight and bias of the radial network's last layer.

        Outputs are in the order of the inputs of :meth:`three_products`.
        """
        last = self.rad_func.final

        def make() -> list[torch.Tensor]:
            stored = torch.arange(len(last.bias), device=last.bias.device)
            parts = torch.split(stored, [2 * size for size in self.weight_sizes])
            by_input = [part.view(-1, 2, self.in_channels).transpose(0, 1) for part in parts]
            order = torch.cat([part.flatten() for part in by_input])
            return [last.weight.index_select(0, order), last.bias.index_select(0, order)]

        weight, bias = self._prepared_radial.get([last.weight, last.bias], None, make)
        return weight, bias

    def _halves(self, merged: torch.Tensor) -> list[torch.Tensor]:
        """Return the columns of each of the two inputs."""
        groups, out, _ = merged.shape
        halves = merged.view(groups, out, -1, 2, self.in_channels).unbind(3)
        return [half.flatten(2) for half in halves]

    def _by_input(self, merged: torch.Tensor, m: int) -> list[torch.Tensor]:
        """Return the real matrix of an order for each of the two inputs."""
        matrices = self._halves(merged)
        return matrices if m == 0 else [real_matrix(matrix) for matrix in matrices]


class SummedSO2Convolution(_SO2Maps):
    """One map per order, rotation back from the edge frames and sum over the edges into an atom.

    Map and sum are both linear, so the sum is taken first: for each atom and each pair of an
    output coefficient with an order, the features are summed with the entries of the rotation as
    weights. The maps then act once per atom instead of once per edge.

    Args:
        layout: Degrees and orders.
        in_channels: Channels per input row.
        out_channels: Channels per output row.
        num_experts: X; 0 makes plain layers.
        gain: Standard deviation of one edge's output for unit-variance input.
    """

    def __init__(
        self,
        layout: CoefficientLayout,
        in_channels: int,
        out_channels: int,
        *,
        num_experts: int = 0,
        gain: float = 1.0,
    ) -> None:
        super().__init__(
            layout, in_channels, out_channels, extra=0, num_experts=num_experts, gain=gain
        )
        self.out_channels = out_channels

    def sums(
        self,
        orders: Sequence[torch.Tensor],
        returns: Sequence[torch.Tensor],
        chunks: TargetChunks,
    ) -> tuple[torch.Tensor, ...]:
        """Sum features over edges, weighted by the rotations.

        Args:
            orders: One tensor of edge features per order.
            returns: See :class:`adatom.nn.geometry.EdgeGeometry`.
            chunks: The edges grouped by target.

        Returns:
            Per order ``[N, S, inputs]`` for m = 0 and ``[N, 2 (S - m^2), inputs / 2]`` for m >= 1
            (real parts, then imaginary parts).
        """
        return tuple(
            chunks.sum_to_atoms(torch.bmm(entries, chunks.gather_signs(order, min(m, 1))))
            for m, (order, entries) in enumerate(zip(orders, returns, strict=True))
        )

    def forward(
        self, sums: Sequence[torch.Tensor], geometry: EdgeGeometry, mixture: Mixture
    ) -> torch.Tensor:
        """Apply the maps to the summed features.

        Args:
            sums: See :meth:`sums`.
            geometry: The edges.
            mixture: Expert coefficients and the atoms they apply to.

        Returns:
            ``[N, S, out_channels]``.
        """
        wide = [sums[0], *(torch.cat(total.chunk(2, dim=1), dim=2) for total in sums[1:])]
        matrices = self.degree_matrices(mixture.coefficients)
        bias = self.fc_m0.bias
        degrees = []
        for degree, matrix in enumerate(matrices):
            used = range(min(degree, self.layout.mmax) + 1)
            columns = slice(degree**2, (degree + 1) ** 2)
            rows = [wide[m][:, degree**2 - m * m : (degree + 1) ** 2 - m * m] for m in used]
            out = grouped_linear([torch.cat(rows, dim=2)], [matrix], None, mixture.runs)
            if bias is not None:
                own = bias.view(-1, self.out_channels)[degree]
                out = torch.addcmul(out, geometry.return_sums[:, columns].unsqueeze(2), own)
            degrees.append(out)
        return torch.cat(degrees, dim=1)

    def degree_matrices(self, coefficients: torch.Tensor | None) -> list[torch.Tensor]:
        """Return :meth:`degree_matrices_of` the merged weights, remembered while frozen."""

        def make() -> list[torch.Tensor]:
            return self.degree_matrices_of(self.merged(coefficients))

        return self._prepared.get(self.mapped_weights(), coefficients, make)

    def degree_matrices_of(self, merged: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return from :meth:`merged` the matrix of each degree on all its orders, ``[G, out, in]``.

        Inputs are, order by order, the real parts and then the imaginary parts of :meth:`sums`.
        """
        return [
            torch.cat(
                [
                    self._degree_matrix(merged[m], m, degree)
                    for m in range(min(degree, self.layout.mmax) + 1)
                ],
                dim=2,
            )
            for degree in range(self.layout.lmax + 1)
        ]

    def _degree_matrix(self, merged: torch.Tensor, m: int, degree: int) -> torch.Tensor:
        """Return the part of an order's matrix that makes one degree, ``[G, out, in or 2 in]``."""
        groups, _, width = merged.shape
        parts = merged.view(groups, -1, self.degrees[m], self.out_channels, width)
        return torch.cat(parts[:, :, degree - m].unbind(1), dim=2)


def real_matrix(merged: torch.Tensor) -> torch.Tensor:
    """Return ``[[A, -B], [B, A]]`` from ``[A; B]``, ``[G, 2 out, 2 in]``."""
    a, b = merged.chunk(2, dim=1)
    return torch.cat([torch.cat([a, -b], dim=2), torch.cat([b, a], dim=2)], dim=1)


def _weighted(features: torch.Tensor, weights: torch.Tensor, m: int) -> torch.Tensor:
    """Multiply both signs of an order by the same weights."""
    if m == 0:
        return features * weights
    signs = features.view(features.shape[0], 2, weights.shape[1])
    return (signs * weights.unsqueeze(1)).flatten(1)
