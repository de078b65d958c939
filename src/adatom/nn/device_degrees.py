"""The edge-degree embedding in large tiles, without atomic operations."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from adatom.nn.layout import CoefficientLayout
from adatom.nn.message_tiles import MessageTile
from adatom.nn.radial import RadialMLP
from adatom.nn.triton_messages import RadialFunction, invariant_entries
from adatom.nn.wigner import edge_rotations


def degree_messages(
    network: RadialMLP,
    layout: CoefficientLayout,
    vectors: torch.Tensor,
    tiles: list[MessageTile],
    radial: RadialFunction,
) -> torch.Tensor:
    """Return for each atom the sum of rotated radial functions ``[N, S, C]``, not rescaled.

    Each tile is computed again in the backward pass. Needs :mod:`adatom.nn.triton_messages`.

    Args:
        network: Its outputs run over (degree, channel); frozen.
        layout: Degrees and orders.
        vectors: ``[E, 3]`` in angstrom.
        tiles: All edges.
        radial: The hidden layers of ``network`` and the envelope.
    """
    size = layout.node_size
    degrees, entries = invariant_entries(layout, vectors.device)

    def sums(own: torch.Tensor, tile: MessageTile) -> torch.Tensor:
        distances = torch.linalg.vector_norm(own, dim=1)
        rotations = edge_rotations(own / distances.unsqueeze(1), layout)
        hidden, envelope = radial(distances, tile.edges)
        values = network.last(hidden).unflatten(1, (layout.lmax + 1, -1))
        turned = rotations.flatten(1).index_select(1, entries) * envelope.unsqueeze(1)
        rows = values.index_select(1, degrees) * turned.unsqueeze(2)
        total: torch.Tensor = _TargetSums.apply(rows.flatten(1), tile)  # type: ignore[no-untyped-call]
        return total.view(total.shape[0], size, -1)

    if not tiles:
        channels = network.final.out_features // (layout.lmax + 1)
        return vectors.new_zeros(0, size, channels)
    return torch.cat(
        [
            checkpoint(
                sums, vectors[tile.edges], tile, use_reentrant=False, preserve_rng_state=False
            )
            for tile in tiles
        ]
    )


class _TargetSums(torch.autograd.Function):
    """Sum ``[n, width]`` over the edges of each target of a tile."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, tile: MessageTile) -> torch.Tensor:
        from adatom.nn.triton_kernels.segments import segment_sums

        ctx.tile = tile
        out = rows.new_empty(tile.starts.shape[0] - 1, rows.shape[1])
        nodes = torch.arange(out.shape[0], device=out.device)
        with torch.cuda.device_of(rows):
            segment_sums(rows, tile.by_target, tile.starts, nodes, out, add=False)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        tile = ctx.tile
        return gradients[0].index_select(0, tile.ends[1] - tile.atoms.start), None
