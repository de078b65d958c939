"""Summed messages of frozen weights, tile by tile, with a hand-written adjoint.

One Function takes node features to the sums over edges of rotated, weighted, mapped and gated
features. Only the outputs of the maps are kept for the backward pass; everything else exists for
one tile of edges at a time, in buffers that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adatom.nn.edge_tiles import EdgeTile
from adatom.nn.layout import CoefficientLayout

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class FrozenConvolution:
    """A convolution with gates whose weights need no gradient.

    Attributes:
        layout: Degrees and orders.
        channels: C, channels of node features.
        hidden_channels: H, channels after the maps.
        matrices: For each order the real map ``[G, out, in]`` of (sign, degree, source or target,
            channel) to (sign, degree, channel); the one of order 0 has the gates first.
        bias: ``[out]`` of order 0.
        radial_weight: ``[weights, Ce]`` last layer of the radial network.
        radial_bias: ``[weights]``.
    """

    layout: CoefficientLayout
    channels: int
    hidden_channels: int
    matrices: list[torch.Tensor]
    bias: torch.Tensor
    radial_weight: torch.Tensor
    radial_bias: torch.Tensor

    @property
    def num_gates(self) -> int:
        """Gate scalars per edge."""
        return self.layout.lmax * self.hidden_channels

    def inputs(self, features: torch.Tensor) -> list[torch.Tensor]:
        """Split ``[n, R, 2 C]`` into orders, each ``[n, 1 or 2, degrees * 2 C]``."""
        pieces = torch.split(features, self.layout.order_sizes, dim=1)
        return [
            piece.view(piece.shape[0], 2 if m else 1, -1 if piece.shape[0] else 0)
            for m, piece in enumerate(pieces)
        ]

    def weights(self, weights: torch.Tensor) -> list[torch.Tensor]:
        """Split radial weights into orders, each ``[n, 1, degrees * 2 C]``."""
        sizes = [
            self.layout.degrees_of_order(m) * 2 * self.channels for m in range(self.layout.mmax + 1)
        ]
        return [piece.unsqueeze(1) for piece in torch.split(weights, sizes, dim=1)]

    def outputs(self, mapped: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Split ``[n, outputs]`` into the gates and the orders."""
        sizes = [size * self.hidden_channels for size in self.layout.order_sizes]
        gates, *orders = torch.split(mapped, [self.num_gates, *sizes], dim=1)
        return gates, list(orders)

    def signed(self, order: torch.Tensor, m: int) -> torch.Tensor:
        """View ``[n, outputs of m >= 1]`` as ``[n, 2, degrees * H]``."""
        width = self.layout.degrees_of_order(m) * self.hidden_channels
        return order.unflatten(1, (2, width))


class _Workspace:
    """Buffers for the largest tile."""

    def __init__(
        self, spec: FrozenConvolution, tiles: Sequence[EdgeTile], like: torch.Tensor
    ) -> None:
        layout, wide = spec.layout, 2 * spec.channels
        edges = max((len(t.slot_of_edge) for t in tiles), default=0)
        slots = max((len(t.edge_of_slot) for t in tiles), default=0)
        self.source_target = like.new_empty(edges, layout.node_size, wide)
        self.rotated = like.new_empty(edges, layout.edge_size, wide)
        self.weights = like.new_empty(edges, spec.radial_weight.shape[0])
        self.gates = like.new_empty(edges, spec.num_gates)
        widths = [size * spec.hidden_channels for size in layout.order_sizes]
        self.activated = [like.new_empty(edges, width) for width in widths]
        self.slots = [like.new_empty(slots, width) for width in widths]


class _Tile:
    """The steps of one tile that both passes take."""

    def __init__(
        self,
        spec: FrozenConvolution,
        tile: EdgeTile,
        space: _Workspace,
        saved: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    ) -> None:
        self.spec = spec
        self.tile = tile
        self.space = space
        features, rotations, hidden = saved
        self.count = tile.edges.stop - tile.edges.start
        self.rows = features.view(-1, spec.channels)
        self.rotations = rotations[tile.edges]
        self.hidden = hidden[tile.edges]

    def rotate(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Gather source and target, and rotate them; ``[n, S, 2 C]`` and ``[n, R, 2 C]``."""
        gathered = self.space.source_target[: self.count]
        out = gathered.view(-1, self.spec.channels)
        torch.index_select(self.rows, 0, self.tile.rows, out=out)
        rotated = torch.bmm(self.rotations, gathered, out=self.space.rotated[: self.count])
        return gathered, rotated

    def radial(self) -> torch.Tensor:
        """Return the radial weights ``[n, weights]``."""
        spec, out = self.spec, self.space.weights[: self.count]
        return torch.addmm(spec.radial_bias, self.hidden, spec.radial_weight.T, out=out)

    def convolve(self, mapped: torch.Tensor) -> None:
        """Fill ``mapped [n, outputs]``."""
        spec = self.spec
        _, rotated = self.rotate()
        weights = spec.weights(self.radial())
        column = 0
        for m, piece in enumerate(spec.inputs(rotated)):
            piece.mul_(weights[m])
            matrix = spec.matrices[m][self.tile.group]
            out = mapped[:, column : column + matrix.shape[0]]
            if m == 0:
                torch.addmm(spec.bias, piece.flatten(1), matrix.T, out=out)
            else:
                torch.mm(piece.flatten(1), matrix.T, out=out)
            column += matrix.shape[0]

    def activate(self, mapped: torch.Tensor) -> list[torch.Tensor]:
        """Apply the gates, and put each order into its slots."""
        spec, hidden = self.spec, self.spec.hidden_channels
        gates, orders = spec.outputs(mapped)
        factors = torch.sigmoid(gates, out=self.space.gates[: self.count])
        slots = []
        for m, order in enumerate(orders):
            out = self.space.activated[m][: self.count]
            if m == 0:
                torch.ops.aten.silu.out(order[:, :hidden], out=out[:, :hidden])
                torch.mul(order[:, hidden:], factors, out=out[:, hidden:])
            else:
                own = factors[:, (m - 1) * hidden :].unsqueeze(1)
                torch.mul(spec.signed(order, m), own, out=spec.signed(out, m))
            slot = self.space.slots[m][: len(self.tile.edge_of_slot)]
            torch.index_select(out, 0, self.tile.edge_of_slot, out=slot)
            slots.append(slot.view(len(self.tile.atoms), -1, slot.shape[1] >> min(m, 1)))
        return slots

    def activate_backward(self, gradients: list[torch.Tensor], mapped: torch.Tensor) -> None:
        """Turn ``mapped`` into its gradient; the gates' factors are those of :meth:`activate`."""
        spec, hidden = self.spec, self.spec.hidden_channels
        gates, orders = spec.outputs(mapped)
        factors = self.space.gates[: self.count]
        slopes = gates.zero_()
        for m, (order, gradient) in enumerate(zip(orders, gradients, strict=True)):
            if m == 0:
                torch.mul(gradient[:, hidden:], order[:, hidden:], out=slopes)
                scalars = order[:, :hidden]
                scalars.copy_(torch.ops.aten.silu_backward(gradient[:, :hidden], scalars))
                torch.mul(gradient[:, hidden:], factors, out=order[:, hidden:])
                continue
            own = factors[:, (m - 1) * hidden :].unsqueeze(1)
            signed, arriving = spec.signed(order, m), spec.signed(gradient, m)
            slopes[:, (m - 1) * hidden :].add_(signed.mul_(arriving).sum(1))
            torch.mul(arriving, own, out=signed)
        slopes.mul_(factors).mul_(1 - factors)


def tiled_messages(
    spec: FrozenConvolution,
    tiles: list[EdgeTile],
    inputs: Tensors,
    reference: Callable[..., Tensors],
) -> Tensors:
    """Return the summed messages of each order; see :meth:`SummedSO2Convolution.sums`.

    Args:
        spec: The convolution.
        tiles: All edges.
        inputs: Node features ``[N, S, C]``, rotations ``[E, R, S]``, last hidden layer of the
            radial network ``[E, Ce]``, and the entries of the way back per order.
        reference: Computes the same from ``inputs``, for derivatives of derivatives.
    """
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    context = (spec, tiles, reference, keep)
    result: Tensors = _TiledMessages.apply(context, *inputs)  # type: ignore[no-untyped-call]
    return result


class _TiledMessages(torch.autograd.Function):
    """See :func:`tiled_messages`."""

    @staticmethod
    def forward(ctx: Any, context: Any, *inputs: torch.Tensor) -> Tensors:
        spec, tiles, _, keep = context
        features, rotations, hidden, *returns = (tensor.contiguous() for tensor in inputs)
        outputs = sum(matrix.shape[1] for matrix in spec.matrices)
        edges = rotations.shape[0]
        space = _Workspace(spec, tiles, features)
        largest = edges if keep else space.rotated.shape[0]
        mapped = features.new_empty(largest, outputs)
        widths = [size * spec.hidden_channels for size in spec.layout.order_sizes]
        sums = [
            features.new_zeros(features.shape[0], returned.shape[1], width >> min(m, 1))
            for m, (returned, width) in enumerate(zip(returns, widths, strict=True))
        ]
        for tile in tiles:
            step = _Tile(spec, tile, space, (features, rotations, hidden))
            own = mapped[tile.edges] if keep else mapped[: step.count]
            step.convolve(own)
            for m, slots in enumerate(step.activate(own)):
                sums[m].index_add_(0, tile.atoms, torch.bmm(returns[m][tile.chunks], slots))
        ctx.context = context
        ctx.save_for_backward(*inputs, mapped)
        return tuple(sums)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        spec, tiles, reference, _ = ctx.context
        *inputs, mapped = ctx.saved_tensors
        if torch.is_grad_enabled():
            return (None, *_differentiable(reference, inputs, gradients))
        features, rotations, hidden, *returns = (tensor.contiguous() for tensor in inputs)
        space = _Workspace(spec, tiles, features)
        buffer = features.new_empty(space.rotated.shape[0], mapped.shape[1])
        to_rotated = torch.empty_like(space.rotated)
        to_features = torch.zeros_like(features)
        to_rotations, to_hidden = torch.empty_like(rotations), torch.empty_like(hidden)
        to_returns = [torch.empty_like(returned) for returned in returns]
        for tile in tiles:
            step = _Tile(spec, tile, space, (features, rotations, hidden))
            own = buffer[: step.count].copy_(mapped[tile.edges])
            arriving = []
            for m, slots in enumerate(step.activate(own)):
                gradient = gradients[m].index_select(0, tile.atoms)
                out = to_returns[m][tile.chunks]
                torch.bmm(gradient, slots.transpose(1, 2), out=out)
                back = torch.bmm(returns[m][tile.chunks].transpose(1, 2), gradient, out=slots)
                rows = back.view(len(tile.edge_of_slot), -1)
                to_activated = space.activated[m][: step.count]
                torch.index_select(rows, 0, tile.slot_of_edge, out=to_activated)
                arriving.append(to_activated)
            step.activate_backward(arriving, own)
            gathered, rotated = step.rotate()
            weights = step.radial()
            to_own = to_rotated[: step.count]
            _maps_backward(spec, tile.group, own, to_own)
            to_weights = _weights_backward(spec, to_own, rotated, weights)
            torch.mm(to_weights, spec.radial_weight, out=to_hidden[tile.edges])
            torch.bmm(to_own, gathered.transpose(1, 2), out=to_rotations[tile.edges])
            back = torch.bmm(step.rotations.transpose(1, 2), to_own, out=gathered)
            rows = back.view(-1, spec.channels)
            to_features.view(-1, spec.channels).index_add_(0, tile.rows, rows)
        return (None, to_features, to_rotations, to_hidden, *to_returns)


def _maps_backward(
    spec: FrozenConvolution, group: int, to_mapped: torch.Tensor, to_weighted: torch.Tensor
) -> None:
    """Fill ``to_weighted [n, R, 2 C]`` from the gradient of the maps' outputs."""
    column = row = 0
    flat = to_weighted.flatten(1)
    for matrices in spec.matrices:
        matrix = matrices[group]
        outputs, inputs = matrix.shape
        gradient = to_mapped[:, column : column + outputs]
        torch.mm(gradient, matrix, out=flat[:, row : row + inputs])
        column += outputs
        row += inputs


def _weights_backward(
    spec: FrozenConvolution, gradient: torch.Tensor, rotated: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Pass ``gradient`` through the radial weights in place; return the weights' gradient.

    ``rotated`` and ``weights`` are overwritten.
    """
    parts = zip(
        spec.inputs(gradient), spec.inputs(rotated), spec.weights(weights), strict=True
    )
    for m, (arriving, feature, weight) in enumerate(parts):
        feature.mul_(arriving)
        arriving.mul_(weight)
        if m == 0:
            weight.copy_(feature)
        else:
            torch.add(feature[:, 0], feature[:, 1], out=weight[:, 0])
    return weights


def _differentiable(
    reference: Callable[..., Tensors], inputs: Sequence[torch.Tensor], gradients: Tensors
) -> list[torch.Tensor | None]:
    """Return the gradients of the inputs with their own graph."""
    needed = [tensor for tensor in inputs if tensor.requires_grad]
    found = iter(
        torch.autograd.grad(
            reference(*inputs), needed, gradients, create_graph=True, allow_unused=True
        )
    )
    return [next(found) if tensor.requires_grad else None for tensor in inputs]
