"""Summed messages of frozen weights, tile by tile, with a hand-written adjoint.

Everything that belongs to edges exists for one tile of them at a time, in buffers that stay in the
cache; what belongs to the sums before the second convolution exists for one block of atoms. The
adjoint computes it again, except for what the budget allowed to keep.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from adatom.nn.buffer_pool import Loan
from adatom.nn.edge_tiles import AtomBlock, EdgeTile
from adatom.nn.frozen_convolution import FrozenConvolution
from adatom.nn.frozen_radial import RadialStates
from adatom.nn.tile_geometry import TileGeometry
from adatom.nn.tiled_edges import TiledEdges

_aten = torch.ops.aten


class KeptMessages(NamedTuple):
    """What the forward pass leaves to the adjoint, for the first edges.

    Attributes:
        loan: Holds the memory of the others.
        mapped: ``[edges, outputs]`` outputs of the first maps.
        weights: ``[edges, weights]`` radial weights.
        states: Of the radial network, by the first edge of the tile.
    """

    loan: Loan
    mapped: torch.Tensor
    weights: torch.Tensor
    states: dict[int, RadialStates]

    def holds_weights(self, tile: EdgeTile) -> bool:
        """Tell whether the radial weights of a tile are kept."""
        return bool(tile.edges.stop <= len(self.weights))


class _Workspace:
    """Buffers for the largest tile."""

    def __init__(self, spec: FrozenConvolution, tiles: list[EdgeTile], like: torch.Tensor) -> None:
        layout = spec.layout
        edges = max(tile.num_edges for tile in tiles)
        slots = max(tile.edge_of_slot.shape[0] for tile in tiles)
        node = (edges, layout.node_size, spec.channels)
        edge = (edges, layout.edge_size, spec.channels)
        inputs = list(zip(spec.input_widths, range(layout.mmax + 1), strict=True))
        shapes = [
            *(node, edge, edge),
            *((edges, spec.num_weights), (edges, spec.num_weights)),
            *((edges, spec.num_gates), (edges, spec.num_outputs), (edges, spec.num_outputs)),
            *((edges, 1 + min(m, 1), width) for width, m in inputs),
            *((edges, width) for width in spec.output_widths),
            *((slots, width) for width in spec.output_widths),
        ]
        self.loan = Loan(shapes, like)
        self.gathered, self.source, self.target, *others = self.loan.tensors
        self.weights, self.to_weights, self.gates, *others = others
        self.mapped, self.to_mapped, *others = others
        orders = layout.mmax + 1
        self.inputs, self.activated = others[:orders], others[orders : 2 * orders]
        self.slots = others[2 * orders :]


class TiledMessages:
    """The messages of one layer.

    Args:
        spec: The convolutions.
        edges: All edges.

    Attributes:
        kept_mapped: Of how many edges the outputs of the first maps are kept for the adjoint.
        kept_weights: Of how many the radial weights and what leads to them.
    """

    def __init__(self, spec: FrozenConvolution, edges: TiledEdges) -> None:
        self.spec = spec
        self.edges = edges
        self.kept_mapped = 0
        self.kept_weights = 0

    def add(self, features: torch.Tensor, out: torch.Tensor, *, keep: bool) -> KeptMessages | None:
        """Add the summed messages of ``features [N, S, C]`` to ``out [N, S, C]``, in place.

        Returns:
            What :meth:`adjoint` can use, if ``keep``.
        """
        spec = self.spec
        if not self.edges.blocks:
            return None
        kept = None
        if keep:
            shapes = [(self.kept_mapped, spec.num_outputs), (self.kept_weights, spec.num_weights)]
            loan = Loan(shapes, features)
            mapped, weights = loan.tensors
            kept = KeptMessages(loan, mapped, weights, {})
        space = _Workspace(spec, self.edges.tiles, features)
        for block in self.edges.blocks:
            sums = [features.new_zeros(block.num_atoms, *shape) for shape in spec.sum_shapes]
            return_sums = features.new_zeros(block.num_atoms, spec.layout.node_size)
            for tile in block.tiles:
                step = _Step(self, block, tile, space, kept)
                step.convolve(features)
                if kept and kept.holds_weights(tile):
                    kept.states[tile.edges.start] = step.states
                step.activate()
                returns = step.geometry.returns
                for m, total in enumerate(sums):
                    entries = returns[m].transpose(1, 2).contiguous()
                    total.index_add_(0, tile.chunk_atoms, torch.bmm(entries, step.slots(m)))
                return_sums.index_add_(0, tile.chunk_atoms, returns[0].sum(1))
            messages = spec.map_sums(sums, block.group)
            own = out[block.atoms]
            for degree, message in enumerate(messages):
                rows = slice(degree**2, (degree + 1) ** 2)
                own[:, rows] += message
                own[:, rows].addcmul_(return_sums[:, rows, None], spec.degree_bias[degree])
        return kept

    def adjoint(
        self, features: torch.Tensor, gradient: torch.Tensor, kept: KeptMessages | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradients of the features and vectors from that of the messages.

        Args:
            features: ``[N, S, C]``.
            gradient: ``[N, S, C]``.
            kept: What :meth:`add` returned.
        """
        spec = self.spec
        to_features = torch.zeros_like(features)
        to_vectors = torch.zeros_like(self.edges.vectors)
        if not self.edges.blocks:
            return to_features, to_vectors
        space = _Workspace(spec, self.edges.tiles, features)
        bias = spec.degree_bias.index_select(0, spec.layout.node_degrees.to(features.device))
        for block in self.edges.blocks:
            own = gradient[block.atoms]
            to_sums = spec.map_sums_adjoint(own, block.group)
            to_return_sums = (own * bias).sum(2)
            for tile in block.tiles:
                step = _Step(self, block, tile, space, kept, recalls=True)
                step.recall(features)
                step.activate()
                to_returns = step.sums_adjoint(to_sums)
                to_returns[0] += to_return_sums.index_select(0, tile.chunk_atoms).unsqueeze(1)
                step.activate_adjoint()
                to_rotations, to_basis = step.convolve_adjoint(features, to_features)
                to_vectors[tile.edges] = self.edges.functions.adjoint(
                    step.geometry, tile, to_rotations, to_returns, to_basis
                )
        return to_features, to_vectors


class _Step:
    """The work on one tile; ``recalls`` in the adjoint, which finds what was kept."""

    def __init__(
        self,
        messages: TiledMessages,
        block: AtomBlock,
        tile: EdgeTile,
        space: _Workspace,
        kept: KeptMessages | None,
        *,
        recalls: bool = False,
    ) -> None:
        self.spec = messages.spec
        self.group = block.group
        self.tile = tile
        self.space = space
        self.count = tile.num_edges
        self.geometry: TileGeometry = messages.edges.geometry(tile)
        self.mapped, self.weights = space.mapped[: self.count], space.weights[: self.count]
        self.has_mapped = False
        if kept and tile.edges.stop <= len(kept.mapped):
            self.mapped = kept.mapped[tile.edges]
            self.has_mapped = recalls
        self.has_weights = False
        if kept and kept.holds_weights(tile):
            self.weights = kept.weights[tile.edges]
            self.has_weights = recalls
            if recalls:
                self.states = kept.states[tile.edges.start]

    def rotate(self, features: torch.Tensor) -> None:
        """Fill ``source`` and ``target`` of the workspace, ``[n, R, C]``."""
        space, rotations = self.space, self.geometry.rotations
        gathered = space.gathered[: self.count]
        for atoms, out in ((self.tile.source, space.source), (self.tile.target, space.target)):
            torch.index_select(features, 0, atoms, out=gathered)
            torch.bmm(rotations, gathered, out=out[: self.count])

    def radial(self) -> None:
        """Fill the radial weights ``[n, weights]``."""
        if self.has_weights:
            return
        radial = self.spec.radial
        hidden, self.states = radial.hidden(self.geometry.basis, self.tile.pairs)
        torch.addmm(radial.bias, hidden, radial.weight.T, out=self.weights)

    def weigh(self) -> list[torch.Tensor]:
        """Multiply the rotated features by the weights; ``[n, 1 or 2, width]`` per order."""
        results = [inputs[: self.count] for inputs in self.space.inputs]
        for rotated, weights, out in self.parts(self.weights, results):
            torch.mul(rotated, weights, out=out)
        return results

    def parts(
        self, weights: torch.Tensor, inputs: list[torch.Tensor]
    ) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Return for each order, source and target: features, weights, and inputs of the maps.

        Their shapes are ``[n, 1 or 2, w]``, ``[n, 1, w]`` and ``[n, 1 or 2, w]``.
        """
        spec, parts = self.spec, []
        own = torch.split(weights, spec.input_widths, dim=1)
        both = [x[: self.count].flatten(1) for x in (self.space.source, self.space.target)]
        start = 0
        for weight, x in zip(own, inputs, strict=True):
            signs, width = x.shape[1], x.shape[2] >> 1
            for i, features in enumerate(both):
                columns = slice(i * width, (i + 1) * width)
                piece = features[:, start : start + signs * width]
                parts.append(
                    (
                        piece.view(self.count, signs, width),
                        weight[:, columns].unsqueeze(1),
                        x[:, :, columns],
                    )
                )
            start += signs * width
        return parts

    def convolve(self, features: torch.Tensor) -> None:
        """Fill ``mapped [n, outputs]``."""
        spec = self.spec
        self.rotate(features)
        self.radial()
        first, *others = self.weigh()
        gates, orders = spec.outputs(self.mapped)
        width = gates.shape[1] + orders[0].shape[1]
        torch.addmm(
            spec.bias, first.flatten(1), spec.first[self.group].T, out=self.mapped[:, :width]
        )
        for matrices, x, y in zip(spec.others, others, orders[1:], strict=True):
            a, s, d = (matrix[self.group].T for matrix in matrices)
            common = (x[:, 0] + x[:, 1]) @ a
            torch.addmm(common, x[:, 1], s, alpha=-1, out=y[:, 0])
            torch.addmm(common, x[:, 0], d, out=y[:, 1])

    def recall(self, features: torch.Tensor) -> None:
        """Make what :meth:`convolve` leaves available again."""
        if not self.has_mapped:
            self.convolve(features)
            return
        self.rotate(features)
        self.radial()

    def activate(self) -> None:
        """Fill the gates, and the slots with the activated orders."""
        hidden, space = self.spec.hidden_channels, self.space
        gates, orders = self.spec.outputs(self.mapped)
        factors = torch.sigmoid(gates, out=space.gates[: self.count])
        for m, order in enumerate(orders):
            out = space.activated[m][: self.count]
            if m == 0:
                _aten.silu.out(order[:, :hidden], out=out[:, :hidden])
                torch.mul(order[:, hidden:], factors, out=out[:, hidden:])
            else:
                own = factors[:, (m - 1) * hidden :].unsqueeze(1)
                torch.mul(order, own, out=out.view_as(order))
            slots = space.slots[m][: self.tile.edge_of_slot.shape[0]]
            torch.index_select(out, 0, self.tile.edge_of_slot, out=slots)

    def slots(self, m: int) -> torch.Tensor:
        """View the activated features of an order as ``[chunks, slots and signs, width]``."""
        slots = self.space.slots[m][: self.tile.edge_of_slot.shape[0]]
        return slots.view(self.tile.num_chunks, -1, self.spec.sum_shapes[m][1])

    def sums_adjoint(self, to_sums: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the gradients of the returns; fill ``activated`` with those of itself."""
        to_returns = []
        for m, to_sum in enumerate(to_sums):
            slots, entries = self.slots(m), self.geometry.returns[m]
            gradient = to_sum.index_select(0, self.tile.chunk_atoms)
            to_returns.append(torch.bmm(slots, gradient.transpose(1, 2)))
            back = torch.bmm(entries, gradient, out=slots)
            rows = back.view(self.tile.edge_of_slot.shape[0], -1)
            out = self.space.activated[m][: self.count]
            torch.index_select(rows, 0, self.tile.slot_of_edge, out=out)
        return to_returns

    def activate_adjoint(self) -> None:
        """Fill ``to_mapped`` from the gradients in ``activated``."""
        spec, hidden, space = self.spec, self.spec.hidden_channels, self.space
        _, orders = spec.outputs(self.mapped)
        slopes, results = spec.outputs(space.to_mapped[: self.count])
        factors = space.gates[: self.count]
        for m, order in enumerate(orders):
            gradient = space.activated[m][: self.count]
            if m == 0:
                _aten.silu_backward.grad_input(
                    gradient[:, :hidden], order[:, :hidden], grad_input=results[0][:, :hidden]
                )
                torch.mul(gradient[:, hidden:], order[:, hidden:], out=slopes)
                torch.mul(gradient[:, hidden:], factors, out=results[0][:, hidden:])
                continue
            own = slice((m - 1) * hidden, None)
            arriving = gradient.view_as(order)
            torch.mul(arriving, factors[:, own].unsqueeze(1), out=results[m])
            slopes[:, own].addcmul_(arriving[:, 0], order[:, 0])
            slopes[:, own].addcmul_(arriving[:, 1], order[:, 1])
        _aten.sigmoid_backward.grad_input(slopes, factors, grad_input=slopes)

    def convolve_adjoint(
        self, features: torch.Tensor, to_features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradients of rotations and basis; add that of the features."""
        spec, space = self.spec, self.space
        slopes, orders = spec.outputs(space.to_mapped[: self.count])
        first, *others = results = [inputs[: self.count] for inputs in space.inputs]
        width = slopes.shape[1] + orders[0].shape[1]
        torch.mm(space.to_mapped[: self.count, :width], spec.first[self.group], out=first[:, 0])
        for matrices, x, y in zip(spec.others, others, orders[1:], strict=True):
            a, s, d = (matrix[self.group] for matrix in matrices)
            common = (y[:, 0] + y[:, 1]) @ a
            torch.addmm(common, y[:, 1], d, out=x[:, 0])
            torch.addmm(common, y[:, 0], s, alpha=-1, out=x[:, 1])
        to_weights = space.to_weights[: self.count]
        own = self.parts(to_weights, results)
        for (rotated, weights, gradient), (_, result, _) in zip(
            self.parts(self.weights, results), own, strict=True
        ):
            if rotated.shape[1] == 1:
                torch.mul(rotated, gradient, out=result)
                torch.mul(gradient, weights, out=rotated)
            else:
                torch.mul(rotated[:, :1], gradient[:, :1], out=result)
                result.addcmul_(rotated[:, 1:], gradient[:, 1:])
                torch.mul(gradient, weights, out=rotated)
        to_basis = spec.radial.hidden_adjoint(to_weights @ spec.radial.weight, self.states)
        return self.rotate_adjoint(features, to_features), to_basis

    def rotate_adjoint(self, features: torch.Tensor, to_features: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the rotations ``[n, R, S]``; add that of the features.

        The gradients of the rotated features are where these were.
        """
        space, rotations = self.space, self.geometry.rotations
        gathered = space.gathered[: self.count]
        parts = []
        for atoms, gradient in ((self.tile.source, space.source), (self.tile.target, space.target)):
            own = gradient[: self.count]
            torch.index_select(features, 0, atoms, out=gathered)
            parts.append(torch.bmm(own, gathered.transpose(1, 2)))
            torch.bmm(rotations.transpose(1, 2), own, out=gathered)
            to_features.index_add_(0, atoms, gathered)
        return parts[0].add_(parts[1])
