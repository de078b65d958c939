"""A convolution with gates and the one after its sum, in the form that tiles use."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from adatom.nn.frozen_radial import FrozenRadial
from adatom.nn.layout import CoefficientLayout


@dataclass(frozen=True)
class FrozenConvolution:
    """Both convolutions of a layer; no weight needs gradients.

    Attributes:
        layout: Degrees and orders.
        channels: C, channels of node features.
        hidden_channels: H, channels between the convolutions.
        first: ``[G, out, in]`` map of order 0, from (source or target, degree, channel) to the
            gates and then (degree, channel).
        others: For each order m >= 1 the complex map A + iB as ``(A, A + B, B - A)``, each
            ``[G, out, in]``: complex products take three real ones (Gauss).
        bias: ``[out]`` of order 0.
        radial: Makes the radial weights, which run over (order, source or target, degree, channel).
        degrees: For each degree the second map ``[G, C, in]`` from (order, real or imaginary part,
            degree, channel).
        degree_bias: ``[lmax + 1, C]`` of the second map.
    """

    layout: CoefficientLayout
    channels: int
    hidden_channels: int
    first: torch.Tensor
    others: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    bias: torch.Tensor
    radial: FrozenRadial
    degrees: list[torch.Tensor]
    degree_bias: torch.Tensor

    @property
    def num_gates(self) -> int:
        """Gate scalars per edge."""
        return self.layout.lmax * self.hidden_channels

    @property
    def num_outputs(self) -> int:
        """Outputs of the first maps per edge."""
        return self.num_gates + self.layout.edge_size * self.hidden_channels

    @property
    def num_weights(self) -> int:
        """Radial weights per edge."""
        return sum(self.input_widths)

    @property
    def input_widths(self) -> list[int]:
        """Inputs of each order, of one sign."""
        orders = range(self.layout.mmax + 1)
        return [self.layout.degrees_of_order(m) * 2 * self.channels for m in orders]

    @property
    def output_widths(self) -> list[int]:
        """Outputs of each order, both signs together and without the gates."""
        return [size * self.hidden_channels for size in self.layout.order_sizes]

    @property
    def sum_shapes(self) -> list[tuple[int, int]]:
        """Shape of the sums of each order per atom; see :class:`SummedSO2Convolution`."""
        size = self.layout.node_size
        return [
            (size if m == 0 else 2 * (size - m * m), width >> min(m, 1))
            for m, width in enumerate(self.output_widths)
        ]

    def outputs(self, mapped: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Split ``[n, outputs]`` into the gates and the orders (``[n, 2, width]`` for m >= 1)."""
        gates, *orders = torch.split(mapped, [self.num_gates, *self.output_widths], dim=1)
        signed = [order.view(order.shape[0], 2, order.shape[1] >> 1) for order in orders[1:]]
        return gates, [orders[0], *signed]

    def map_sums(self, sums: list[torch.Tensor], group: int) -> list[torch.Tensor]:
        """Apply the second maps to the sums of some atoms; one ``[n, 2 l + 1, C]`` per degree."""
        atoms = sums[0].shape[0]
        wide = [sums[0], *(torch.cat(total.chunk(2, dim=1), dim=2) for total in sums[1:])]
        outputs = []
        for degree, matrices in enumerate(self.degrees):
            rows = torch.cat([wide[m][:, own] for m, own in self._rows(degree)], dim=2)
            out = rows.flatten(0, 1) @ matrices[group].T
            outputs.append(out.view(atoms, 2 * degree + 1, self.channels))
        return outputs

    def map_sums_adjoint(self, gradient: torch.Tensor, group: int) -> list[torch.Tensor]:
        """Return the gradients of the sums from that of the outputs ``[n, S, C]``."""
        atoms = gradient.shape[0]
        results = [gradient.new_empty(atoms, *shape) for shape in self.sum_shapes]
        for degree, matrices in enumerate(self.degrees):
            rows = gradient[:, degree**2 : (degree + 1) ** 2].reshape(-1, self.channels)
            back = (rows @ matrices[group]).view(atoms, 2 * degree + 1, -1)
            start = 0
            for m, own in self._rows(degree):
                width = self.sum_shapes[m][1]
                half = self.sum_shapes[m][0] >> 1
                for part in range(1 + min(m, 1)):
                    place = slice(own.start + part * half, own.stop + part * half)
                    results[m][:, place] = back[:, :, start : start + width]
                    start += width
        return results

    def _rows(self, degree: int) -> list[tuple[int, slice]]:
        """Return the orders that a degree has, and its rows in their sums."""
        orders = range(min(degree, self.layout.mmax) + 1)
        return [(m, slice(degree**2 - m * m, (degree + 1) ** 2 - m * m)) for m in orders]
