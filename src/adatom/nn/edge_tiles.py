"""Edges in groups whose intermediates stay in the processor's cache."""

from __future__ import annotations

from typing import NamedTuple

import torch

from adatom.nn.experts import Run
from adatom.nn.target_chunks import TargetChunks

#: Edges per tile on a processor: a few MB of intermediates.
_CPU_EDGES = 512
#: Elsewhere, where few large operations pay more than cached ones.
_DEVICE_EDGES = 16384


class EdgeTile(NamedTuple):
    """Consecutive edges that share expert weights, and the chunks they fill.

    Attributes:
        group: Number of the expert weights.
        edges: The edges.
        chunks: The chunks.
        rows: ``[edges * S * 2]`` int64; row of the node features ``[N * S, C]`` for each (edge,
            coefficient, source or target).
        atoms: ``[chunks]`` int64; the target of each chunk.
        edge_of_slot: ``[chunks * size]`` int64, counted from the first edge of the tile.
        slot_of_edge: ``[edges]`` int64, counted from the first slot of the tile.
    """

    group: int
    edges: slice
    chunks: slice
    rows: torch.Tensor
    atoms: torch.Tensor
    edge_of_slot: torch.Tensor
    slot_of_edge: torch.Tensor


def edge_tiles(
    source: torch.Tensor,
    target: torch.Tensor,
    chunks: TargetChunks,
    runs: list[Run],
    node_size: int,
) -> list[EdgeTile]:
    """Divide the edges into tiles.

    Args:
        source: ``[E]`` int64.
        target: ``[E]`` int64, non-decreasing.
        chunks: The edges grouped by target.
        runs: Edges that share expert weights, each beginning with a new atom.
        node_size: S.
    """
    if not source.shape[0]:
        return []
    size = chunks.edges.shape[1]
    bounds = _bounds(chunks.edges[:, 0].contiguous(), runs, source.shape[0])
    pairs = torch.stack([source, target], dim=1).unsqueeze(1) * node_size
    rows = pairs + torch.arange(node_size, device=source.device).unsqueeze(1)
    slots = chunks.slots()
    tiles = []
    for group, edges, own in bounds:
        tiles.append(
            EdgeTile(
                group,
                edges,
                own,
                rows[edges].flatten(),
                chunks.atoms[own],
                (chunks.edges[own] - edges.start).flatten(),
                slots[edges] - own.start * size,
            )
        )
    return tiles


def _bounds(
    first_edges: torch.Tensor, runs: list[Run], num_edges: int
) -> list[tuple[int, slice, slice]]:
    """Return group, edges and chunks of each tile."""
    aim = _CPU_EDGES if first_edges.device.type == "cpu" else _DEVICE_EDGES
    cuts: list[int] = []
    groups: list[int] = []
    for run in runs:
        count = max(1, round((run.stop - run.start) / aim))
        cuts += [run.start + (run.stop - run.start) * k // count for k in range(count)]
        groups += [run.group] * count
    # Each cut moves up to the next chunk; two cuts may meet.
    chunks = torch.searchsorted(first_edges, torch.tensor(cuts, device=first_edges.device))
    number = first_edges.shape[0]
    starts = torch.cat([first_edges, first_edges.new_tensor([num_edges])])[chunks].tolist()
    ends, chunk_starts = [*starts[1:], num_edges], chunks.tolist()
    chunk_ends = [*chunk_starts[1:], number]
    return [
        (group, slice(start, end), slice(chunk, last))
        for group, start, end, chunk, last in zip(
            groups, starts, ends, chunk_starts, chunk_ends, strict=True
        )
        if end > start
    ]
