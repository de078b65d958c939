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

from adatom.nn.buffer_pool import Loan
from adatom.nn.edge_tiles import EdgeTile
from adatom.nn.layout import CoefficientLayout

Tensors = tuple[torch.Tensor, ...]

#: Up to this many radial weights per layer are kept for the backward pass (64 MB in float32);
#: more are computed again.
_KEPT_WEIGHTS = 2**24


@dataclass(frozen=True)
class FrozenConvolution:
    """A convolution with gates whose weights need no gradient.

    Attributes:
        layout: Degrees and orders.
        channels: C, channels of node features.
        hidden_channels: H, channels after the maps.
        first: ``[G, out, in]`` map of order 0, from (degree, source or target, channel) to the
            gates and then (degree, channel).
        others: For each order m >= 1 the complex map A + iB as ``(A, A + B, B - A)``, each
            ``[G, out, in]``: complex products take three real ones (Gauss).
        bias: ``[out]`` of order 0.
        radial_weight: ``[weights, Ce]`` last layer of the radial network.
        radial_bias: ``[weights]``.
    """

    layout: CoefficientLayout
    channels: int
    hidden_channels: int
    first: torch.Tensor
    others: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    bias: torch.Tensor
    radial_weight: torch.Tensor
    radial_bias: torch.Tensor

    @property
    def num_gates(self) -> int:
        """Gate scalars per edge."""
        return self.layout.lmax * self.hidden_channels

    @property
    def num_outputs(self) -> int:
        """Outputs of all maps per edge."""
        return self.num_gates + self.layout.edge_size * self.hidden_channels

    def inputs(self, features: torch.Tensor) -> list[torch.Tensor]:
        """Split ``[n, R, 2 C]`` into orders, each ``[n, 1 or 2, degrees * 2 C]``."""
        pieces = torch.split(features, list(self.layout.order_sizes), dim=1)
        return [
            piece.view(piece.shape[0], 1 + min(m, 1), piece.shape[1] * piece.shape[2] >> min(m, 1))
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
        return order.view(order.shape[0], 2, width)


class _Workspace:
    """Buffers for the largest tile."""

    def __init__(
        self, spec: FrozenConvolution, tiles: Sequence[EdgeTile], like: torch.Tensor
    ) -> None:
        layout, wide = spec.layout, 2 * spec.channels
        edges = max((len(t.slot_of_edge) for t in tiles), default=0)
        slots = max((len(t.edge_of_slot) for t in tiles), default=0)
        widths = [size * spec.hidden_channels for size in layout.order_sizes]
        shapes = [
            (edges, layout.node_size, wide),
            (edges, layout.edge_size, wide),
            (edges, layout.edge_size, wide),
            (edges, len(spec.radial_bias)),
            (edges, spec.num_gates),
            (edges, spec.num_outputs),
            *((edges, width) for width in widths),
            *((slots, width) for width in widths),
        ]
        self.loan = Loan(shapes, like)
        self.source_target, self.rotated, self.to_rotated, *others = self.loan.tensors
        self.weights, self.gates, self.mapped, *orders = others
        self.activated, self.slots = orders[: len(widths)], orders[len(widths) :]


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

    def radial(self, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Return the radial weights ``[n, weights]``, in ``kept [E, weights]`` if it is given."""
        spec = self.spec
        out = self.space.weights[: self.count] if kept is None else kept[self.tile.edges]
        return torch.addmm(spec.radial_bias, self.hidden, spec.radial_weight.T, out=out)

    def convolve(self, mapped: torch.Tensor, radial: torch.Tensor | None) -> None:
        """Fill ``mapped [n, outputs]``, and the radial weights of all edges if they are kept."""
        spec = self.spec
        _, rotated = self.rotate()
        weights = spec.weights(self.radial(radial))
        first, *others = spec.inputs(rotated)
        first.mul_(weights[0])
        out, *parts = self.mapped_parts(mapped)
        torch.addmm(spec.bias, first.flatten(1), spec.first[self.tile.group].T, out=out)
        for m, (x, y) in enumerate(zip(others, parts, strict=True), start=1):
            x.mul_(weights[m])
            a, s, d = (matrix[self.tile.group].T for matrix in spec.others[m - 1])
            common = (x[:, 0] + x[:, 1]) @ a
            torch.addmm(common, x[:, 1], s, alpha=-1, out=y[:, 0])
            torch.addmm(common, x[:, 0], d, out=y[:, 1])

    def mapped_parts(self, mapped: torch.Tensor) -> list[torch.Tensor]:
        """Split outputs into order 0 with the gates ``[n, out]`` and ``[n, 2, out]`` for m >= 1."""
        spec = self.spec
        gates, orders = spec.outputs(mapped)
        first = mapped[:, : gates.shape[1] + orders[0].shape[1]]
        return [first, *(spec.signed(order, m) for m, order in enumerate(orders[1:], start=1))]

    def convolve_backward(self, gradient: torch.Tensor, to_weighted: torch.Tensor) -> None:
        """Fill ``to_weighted [n, R, 2 C]`` from the gradient of the maps' outputs."""
        spec = self.spec
        out, *parts = self.mapped_parts(gradient)
        first, *others = spec.inputs(to_weighted)
        torch.mm(out, spec.first[self.tile.group], out=first[:, 0])
        for matrices, x, y in zip(spec.others, others, parts, strict=True):
            a, s, d = (matrix[self.tile.group] for matrix in matrices)
            common = (y[:, 0] + y[:, 1]) @ a
            torch.addmm(common, y[:, 1], d, out=x[:, 0])
            torch.addmm(common, y[:, 0], s, alpha=-1, out=x[:, 1])

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

    def activate_backward(
        self, gradients: list[torch.Tensor], mapped: torch.Tensor, result: torch.Tensor
    ) -> None:
        """Fill ``result`` with the gradient of ``mapped``, after :meth:`activate` of the same."""
        spec, hidden = self.spec, self.spec.hidden_channels
        _, orders = spec.outputs(mapped)
        slopes, results = spec.outputs(result)
        factors = self.space.gates[: self.count]
        for m, (order, gradient) in enumerate(zip(orders, gradients, strict=True)):
            if m == 0:
                torch.ops.aten.silu_backward.grad_input(
                    gradient[:, :hidden], order[:, :hidden], grad_input=results[0][:, :hidden]
                )
                torch.mul(gradient[:, hidden:], order[:, hidden:], out=slopes)
                torch.mul(gradient[:, hidden:], factors, out=results[0][:, hidden:])
                continue
            own = factors[:, (m - 1) * hidden :].unsqueeze(1)
            arriving = spec.signed(gradient, m)
            torch.mul(arriving, own, out=spec.signed(results[m], m))
            arriving.mul_(spec.signed(order, m))
            slopes[:, (m - 1) * hidden :].add_(arriving[:, 0]).add_(arriving[:, 1])
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
        edges = rotations.shape[0]
        space = _Workspace(spec, tiles, features)
        few = keep and edges * len(spec.radial_bias) <= _KEPT_WEIGHTS
        shapes = [
            (edges if keep else 0, spec.num_outputs),
            (edges if few else 0, len(spec.radial_bias)),
        ]
        ctx.loan = Loan(shapes, features)
        mapped, radial = ctx.loan.tensors
        widths = [size * spec.hidden_channels for size in spec.layout.order_sizes]
        sums = [
            features.new_zeros(features.shape[0], returned.shape[1], width >> min(m, 1))
            for m, (returned, width) in enumerate(zip(returns, widths, strict=True))
        ]
        for tile in tiles:
            step = _Tile(spec, tile, space, (features, rotations, hidden))
            own = mapped[tile.edges] if keep else space.mapped[: step.count]
            step.convolve(own, radial if len(radial) else None)
            for m, slots in enumerate(step.activate(own)):
                sums[m].index_add_(0, tile.atoms, torch.bmm(returns[m][tile.chunks], slots))
        ctx.context = context
        ctx.save_for_backward(*inputs)
        return tuple(sums)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        spec, tiles, reference, _ = ctx.context
        inputs = ctx.saved_tensors
        mapped, radial = ctx.loan.tensors
        if torch.is_grad_enabled():
            return (None, *_differentiable(reference, inputs, gradients))
        features, rotations, hidden, *returns = (tensor.contiguous() for tensor in inputs)
        space = _Workspace(spec, tiles, features)
        to_features = torch.zeros_like(features)
        to_rotations, to_hidden = torch.empty_like(rotations), torch.empty_like(hidden)
        to_returns = [torch.empty_like(returned) for returned in returns]
        for tile in tiles:
            step = _Tile(spec, tile, space, (features, rotations, hidden))
            own = mapped[tile.edges]
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
            to_mapped = space.mapped[: step.count]
            step.activate_backward(arriving, own, to_mapped)
            gathered, rotated = step.rotate()
            weights = radial[tile.edges] if len(radial) else step.radial()
            to_own = space.to_rotated[: step.count]
            step.convolve_backward(to_mapped, to_own)
            to_weights = space.weights[: step.count]
            _weights_backward(spec, (to_own, rotated, weights), to_weights)
            torch.mm(to_weights, spec.radial_weight, out=to_hidden[tile.edges])
            torch.bmm(to_own, gathered.transpose(1, 2), out=to_rotations[tile.edges])
            back = torch.bmm(step.rotations.transpose(1, 2), to_own, out=gathered)
            rows = back.view(-1, spec.channels)
            to_features.view(-1, spec.channels).index_add_(0, tile.rows, rows)
        return (None, to_features, to_rotations, to_hidden, *to_returns)


def _weights_backward(
    spec: FrozenConvolution,
    values: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    to_weights: torch.Tensor,
) -> None:
    """Pass a gradient through the radial weights in place, and fill that of the weights.

    Args:
        spec: The convolution.
        values: The gradient, the rotated features (overwritten) and the weights.
        to_weights: May be the memory of the weights.
    """
    gradient, rotated, weights = values
    parts = zip(
        spec.inputs(gradient),
        spec.inputs(rotated),
        spec.weights(weights),
        spec.weights(to_weights),
        strict=True,
    )
    for m, (arriving, feature, weight, result) in enumerate(parts):
        feature.mul_(arriving)
        arriving.mul_(weight)
        if m == 0:
            result.copy_(feature)
        else:
            torch.add(feature[:, 0], feature[:, 1], out=result[:, 0])


def _differentiable(
    reference: Callable[..., Tensors], inputs: Sequence[torch.Tensor], gradients: Tensors
) -> list[torch.Tensor | None]:
    """Return the gradients of the inputs with their own graph."""
    # Aliases, because one input may be computed from another: only the paths from here count.
    aliases = [tensor.view_as(tensor) for tensor in inputs]
    needed = [alias for alias in aliases if alias.requires_grad]
    found = iter(
        torch.autograd.grad(
            reference(*aliases), needed, gradients, create_graph=True, allow_unused=True
        )
    )
    return [next(found) if alias.requires_grad else None for alias in aliases]
