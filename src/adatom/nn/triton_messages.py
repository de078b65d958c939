"""Messages of one layer on a GPU: Triton kernels around large matrix products.

Node features and edge vectors go in, the summed messages of each atom come out. Everything per edge
exists for one tile at a time, in the forward pass and again in the backward pass. Weights get no
gradient; without Triton or without a GPU see :mod:`adatom.nn.tiled_messages`.

The kernels have run under Triton's interpreter and compile for GPUs, but have not been run or timed
on one yet.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from adatom.core.errors import ConfigError
from adatom.nn.layout import CoefficientLayout
from adatom.nn.message_tiles import MessageTile
from adatom.nn.wigner import _generators, edge_rotations

#: From distances ``[n]`` of the edges in a slice to the last hidden layer of the radial network
#: ``[n, Ce]`` and the envelope ``[n]``; must be differentiable.
RadialFunction = Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]]


def triton_serves(device: torch.device) -> bool:
    """Tell whether these kernels are the compiled ones of a device.

    So on CUDA devices, and on any while Triton interprets (``TRITON_INTERPRET=1``, for tests).
    """
    return device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"


def unavailable(device: torch.device | str) -> str | None:
    """Say in one sentence why the kernels cannot run on a device, or None if they can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; PyTorch for CUDA on Linux brings it (pip install triton)."
    device = torch.device(device)
    if device.type == "cuda":
        return None if torch.cuda.is_available() else "PyTorch finds no CUDA device."
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1":
        return None
    return f"The Triton kernels run on CUDA devices, not on {device.type}."


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def invariant_entries(
    layout: CoefficientLayout, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the degree of each node row, and its entry of order 0 in a rotation ``[R * S]``.

    On the device, so that no call has to wait for a copy.
    """
    degrees = layout.node_degrees
    entries = degrees * layout.node_size + torch.arange(layout.node_size)
    return degrees.to(device), entries.to(device)


@dataclass(frozen=True)
class MessageWeights:
    """The weights of one layer of messages, none of which needs a gradient.

    Attributes:
        layout: Degrees and orders.
        channels: C, channels of node features.
        hidden_channels: H, channels between the maps.
        radial: ``[weights, Ce]`` and ``[weights]``; last layer of the radial network.
        first: For each order the real matrix of the first map, ``[G, out, in]`` (``[G, 2 out, 2
            in]`` for m >= 1: +m before -m); inputs run over degree, source or target, and channel;
            outputs of order 0 begin with the gates.
        first_bias: ``[out]`` of order 0, or None.
        second: For each degree the matrix of the second map on all its orders, ``[G, C, K_l]``.
        second_bias: ``[(lmax + 1) * C]``, or None.
    """

    layout: CoefficientLayout
    channels: int
    hidden_channels: int
    radial: tuple[torch.Tensor, torch.Tensor]
    first: list[torch.Tensor]
    first_bias: torch.Tensor | None
    second: list[torch.Tensor]
    second_bias: torch.Tensor | None


def triton_messages(
    features: torch.Tensor,
    vectors: torch.Tensor,
    tiles: list[MessageTile],
    weights: MessageWeights,
    radial: RadialFunction,
    *,
    kept_bytes: int = 0,
    reference: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Return the summed messages ``[N, S, C]``.

    Args:
        features: ``[N, S, C]``, float32 or float64.
        vectors: ``[E, 3]`` in angstrom, none of them zero.
        tiles: All edges; see :func:`adatom.nn.message_tiles.message_tiles`.
        weights: The layer.
        radial: The radial network up to its last hidden layer, and the envelope.
        kept_bytes: How much of the outputs of the first maps is kept for the backward pass; the
            rest is computed again.
        reference: Computes the same in plain PyTorch, for derivatives of derivatives; without it
            they raise.

    Raises:
        ConfigError: If the kernels cannot run on the device of ``features``.
    """
    reason = unavailable(features.device)
    if reason is not None:
        raise ConfigError(reason, fix="Choose another execution mode.")
    context = (tiles, weights, radial, kept_bytes, reference)
    result: torch.Tensor = _Messages.apply(features, vectors, context)  # type: ignore[no-untyped-call]
    return result


class _Messages(torch.autograd.Function):
    """See :func:`triton_messages`."""

    @staticmethod
    def forward(
        ctx: Any, features: torch.Tensor, vectors: torch.Tensor, context: Any
    ) -> torch.Tensor:
        tiles, weights, radial, left, _ = context
        dense = features.contiguous()
        out = torch.zeros_like(dense)
        ctx.kept = {}
        with torch.cuda.device_of(dense):
            for number, tile in enumerate(tiles):
                step = _Tile(weights, tile, dense, vectors, radial)
                mapped = step.mapped()
                out[tile.atoms] = step.messages(mapped)
                if any(ctx.needs_input_grad) and mapped.nbytes <= left:
                    left -= mapped.nbytes
                    ctx.kept[number] = mapped
        ctx.context = context
        ctx.save_for_backward(features, vectors)
        return out

    @staticmethod
    def backward(
        ctx: Any, *gradients: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        tiles, weights, radial, _, reference = ctx.context
        features, vectors = ctx.saved_tensors
        if torch.is_grad_enabled():
            return (*_differentiable(reference, features, vectors, gradients[0]), None)
        dense, arriving = features.contiguous(), gradients[0].contiguous()
        to_features, to_vectors = torch.zeros_like(dense), torch.zeros_like(vectors)
        with torch.cuda.device_of(dense):
            for number, tile in enumerate(tiles):
                step = _Tile(weights, tile, dense, vectors, radial)
                mapped = ctx.kept.get(number)
                mapped = step.mapped() if mapped is None else mapped
                own = arriving[tile.atoms]
                to_vectors[tile.edges] = step.backward(mapped, own, to_features)
        return to_features, to_vectors, None


class _Tile:
    """The steps of one tile; see :func:`triton_messages` for the arguments."""

    def __init__(
        self,
        weights: MessageWeights,
        tile: MessageTile,
        features: torch.Tensor,
        vectors: torch.Tensor,
        radial: RadialFunction,
    ) -> None:
        self.weights = weights
        self.tile = tile
        self.features = features
        self.layout = weights.layout
        with torch.enable_grad():
            self.vectors = vectors[tile.edges].detach().requires_grad_()
            distances = torch.linalg.vector_norm(self.vectors, dim=1)
            self.directions = self.vectors / distances.unsqueeze(1)
            self.hidden, self.envelope = radial(distances, tile.edges)
        self.rotations = edge_rotations(self.directions.detach(), self.layout)
        self.returns = self.rotations * self.envelope.detach()[:, None, None]
        weight, bias = weights.radial
        self.radial = torch.addmm(bias, self.hidden.detach(), weight.T)

    def mapped(self) -> torch.Tensor:
        """Return gates and edge rows after the first maps, ``[n, (lmax + R) H]``."""
        from adatom.nn.triton_kernels.rotate import rotate

        inputs = rotate(self.layout, *self._rotate_inputs())
        width = (self.layout.lmax + self.layout.edge_size) * self.weights.hidden_channels
        out = inputs.new_empty(inputs.shape[0], width)
        pieces = zip(self._inputs(inputs), self._outputs(out), self.weights.first, strict=True)
        for m, (x, y, matrices) in enumerate(pieces):
            matrix = matrices[self.tile.group].T
            if m == 0 and self.weights.first_bias is not None:
                torch.addmm(self.weights.first_bias, x, matrix, out=y)
            else:
                torch.mm(x, matrix, out=y)
        return out

    def messages(self, mapped: torch.Tensor) -> torch.Tensor:
        """Return the messages of the tile's atoms, ``[atoms, S, C]``."""
        from adatom.nn.triton_kernels.returns import return_sums, sum_layout

        hidden = self.weights.hidden_channels
        where = sum_layout(self.layout, hidden, mapped.device)
        sums = return_sums(self.layout, hidden, mapped, self.returns, self.tile.starts)
        atoms = self.tile.starts.shape[0] - 1
        degrees = [
            torch.mm(x, matrices[self.tile.group].T).view(atoms, -1, self.weights.channels)
            for x, matrices in zip(where.degrees(sums), self.weights.second, strict=True)
        ]
        out = torch.cat(degrees, dim=1)
        bias = self._node_bias()
        if bias is not None:
            _, entries = invariant_entries(self.layout, mapped.device)
            own = self.returns.flatten(1).index_select(1, entries)
            total = own.new_empty(atoms, self.layout.node_size)
            self._to_targets(own, total)
            out = torch.addcmul(out, total.unsqueeze(2), bias)
        return out

    def backward(
        self, mapped: torch.Tensor, arriving: torch.Tensor, to_features: torch.Tensor
    ) -> torch.Tensor:
        """Add to the gradient of the features, and return that of the vectors.

        Args:
            mapped: See :meth:`mapped`.
            arriving: ``[atoms, S, C]`` gradient of :meth:`messages`.
            to_features: ``[N, S, C]``.
        """
        from adatom.nn.triton_kernels.gate import gate_backward
        from adatom.nn.triton_kernels.returns import return_backward
        from adatom.nn.triton_kernels.rotate import rotate_backward

        weights, layout = self.weights, self.layout
        inputs = (mapped, self.returns, self.tile.starts)
        to_sums = self._second_backward(arriving)
        to_gated, to_returns = return_backward(layout, weights.hidden_channels, inputs, to_sums)
        self._bias_backward(arriving, to_returns)
        to_mapped = gate_backward(layout, mapped, to_gated)
        to_inputs = mapped.new_empty(len(mapped), layout.edge_size, 2 * weights.channels)
        pieces = zip(self._inputs(to_inputs), self._outputs(to_mapped), weights.first, strict=True)
        for x, y, matrices in pieces:
            torch.mm(y, matrices[self.tile.group], out=x)
        generators = _generators(layout.lmax, mapped.dtype, mapped.device)
        to_radial, to_ends, torque = rotate_backward(layout, self._rotate_inputs(), to_inputs)
        self._scatter(to_ends, to_features)
        to_hidden = to_radial @ weights.radial[0]
        to_envelope = (to_returns * self.rotations).sum((1, 2))
        turned = torch.bmm(self.returns.transpose(1, 2), to_returns).flatten(1)
        torque = torque - turned @ generators
        # Messages do not depend on the angle of the frame about the edge, so the torque has no
        # part along the edge, and the derivative of that angle is not needed.
        to_directions = torch.linalg.cross(torque, self.directions.detach())
        (result,) = torch.autograd.grad(
            [self.hidden, self.envelope, self.directions],
            self.vectors,
            [to_hidden, to_envelope, to_directions],
        )
        return result

    def _rotate_inputs(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.features, self.tile.ends, self.rotations, self.radial

    def _inputs(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Split ``[n, R, 2 C]`` into orders, each ``[n, in or 2 in]``."""
        width = rows.shape[2]
        sizes = [size * width for size in self.layout.order_sizes]
        return list(torch.split(rows.flatten(1), sizes, dim=1))

    def _outputs(self, mapped: torch.Tensor) -> list[torch.Tensor]:
        """Split ``[n, (lmax + R) H]`` into orders, of which the first has the gates."""
        hidden = self.weights.hidden_channels
        sizes = [size * hidden for size in self.layout.order_sizes]
        sizes[0] += self.layout.lmax * hidden
        return list(torch.split(mapped, sizes, dim=1))

    def _second_backward(self, arriving: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the sums."""
        from adatom.nn.triton_kernels.returns import sum_layout

        hidden = self.weights.hidden_channels
        where = sum_layout(self.layout, hidden, arriving.device)
        out = arriving.new_empty(arriving.shape[0] * where.total)
        pieces = enumerate(zip(where.degrees(out), self.weights.second, strict=True))
        for degree, (x, matrices) in pieces:
            own = arriving[:, degree**2 : (degree + 1) ** 2].reshape(-1, self.weights.channels)
            torch.mm(own, matrices[self.tile.group], out=x)
        return out

    def _node_bias(self) -> torch.Tensor | None:
        """Return the second bias per node coefficient, ``[S, C]``."""
        bias = self.weights.second_bias
        if bias is None:
            return None
        degrees, _ = invariant_entries(self.layout, bias.device)
        return bias.view(-1, self.weights.channels).index_select(0, degrees)

    def _bias_backward(self, arriving: torch.Tensor, to_returns: torch.Tensor) -> None:
        """Add to the gradient of the returns what the second bias contributes."""
        bias = self._node_bias()
        if bias is not None:
            own = (arriving * bias).sum(2)
            rows = own.index_select(0, self.tile.ends[1] - self.tile.atoms.start)
            _, entries = invariant_entries(self.layout, arriving.device)
            # No entry comes twice, so the order of additions does not matter.
            to_returns.flatten(1).index_add_(1, entries, rows)

    def _to_targets(self, rows: torch.Tensor, out: torch.Tensor) -> None:
        """Sum ``[n, width]`` over the edges of each target of the tile."""
        from adatom.nn.triton_kernels.segments import segment_sums

        tile = self.tile
        nodes = torch.arange(out.shape[0], device=out.device)
        segment_sums(rows, tile.by_target, tile.starts, nodes, out, add=False)

    def _scatter(self, to_ends: torch.Tensor, to_features: torch.Tensor) -> None:
        """Add ``[2, n, S, C]`` at the sources and targets."""
        from adatom.nn.triton_kernels.segments import segment_sums

        tile = self.tile
        out = to_features.view(to_features.shape[0], -1)
        sources, targets = to_ends.flatten(2)
        segment_sums(sources, tile.by_source, tile.source_starts, tile.sources, out, add=True)
        nodes = torch.arange(tile.atoms.start, tile.atoms.stop, device=out.device)
        segment_sums(targets, tile.by_target, tile.starts, nodes, out, add=True)


def _differentiable(
    reference: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None,
    features: torch.Tensor,
    vectors: torch.Tensor,
    gradient: torch.Tensor,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the gradients of both inputs with their own graph."""
    if reference is None:
        raise ConfigError(
            "Derivatives of derivatives of Triton messages were asked for",
            fix='Use the execution mode "general".',
        )
    # Aliases, because one input may be computed from the other: only the paths from here count.
    aliases = [tensor.view_as(tensor) for tensor in (features, vectors)]
    needed = [alias for alias in aliases if alias.requires_grad]
    found = iter(
        torch.autograd.grad(
            reference(*aliases), needed, gradient, create_graph=True, allow_unused=True
        )
    )
    first, second = (next(found) if alias.requires_grad else None for alias in aliases)
    return first, second
