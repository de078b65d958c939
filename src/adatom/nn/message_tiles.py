"""Edges of a GPU in large tiles, with what sums without atomic operations need."""

from __future__ import annotations

from typing import NamedTuple

import torch

from adatom.nn.experts import Run

#: Edges per tile: about 1 GB of intermediates at 128 channels in float32.
DEVICE_EDGES = 16384


class MessageTile(NamedTuple):
    """All edges into consecutive atoms that share expert weights.

    Attributes:
        group: Number of the expert weights.
        atoms: The targets, also those without edges.
        edges: The edges.
        ends: ``[2, n]`` int64; source and target of each edge.
        starts: ``[atoms + 1]`` int64; first edge of each target, counted from the first of the
            tile.
        by_target: ``[n]`` int64; the edges in their own order.
        by_source: ``[n]`` int64; the edges sorted by source, counted from the first of the tile.
        sources: Atoms that may be sources, increasing.
        source_starts: ``[sources + 1]`` int64; where the edges of each begin in ``by_source``.
    """

    group: int
    atoms: slice
    edges: slice
    ends: torch.Tensor
    starts: torch.Tensor
    by_target: torch.Tensor
    by_source: torch.Tensor
    sources: torch.Tensor
    source_starts: torch.Tensor


def message_tiles(
    source: torch.Tensor,
    target: torch.Tensor,
    atom_runs: list[Run],
    num_atoms: int,
    edges_per_tile: int | None = None,
    num_rows: int | None = None,
) -> list[MessageTile]:
    """Divide the edges into tiles.

    One run of atoms whose edges fit into one tile is divided without reading anything back from the
    device, so that this can be part of a CUDA graph.

    Args:
        source: ``[E]`` int64.
        target: ``[E]`` int64, non-decreasing.
        atom_runs: Atoms that share expert weights, covering all atoms in order.
        num_atoms: N.
        edges_per_tile: At most this many, unless one atom has more; None takes
            :data:`DEVICE_EDGES`.
        num_rows: Sources are below this; None is ``num_atoms``.
    """
    num_rows = num_atoms if num_rows is None else num_rows
    rows = torch.arange(num_rows + 1, device=target.device)
    atoms = rows[: num_atoms + 1]
    starts = torch.searchsorted(target, atoms)
    if len(atom_runs) == 1 and source.shape[0] <= (edges_per_tile or DEVICE_EDGES):
        by_source, source_starts = _sorted(source, rows)
        return [
            MessageTile(
                atom_runs[0].group,
                slice(0, num_atoms),
                slice(0, source.shape[0]),
                torch.stack([source, target]),
                starts,
                torch.arange(source.shape[0], device=source.device),
                by_source,
                rows[:-1],
                source_starts,
            )
        ]
    tiles = []
    bounds = starts.tolist()
    for group, first, last in _cuts(bounds, atom_runs, edges_per_tile or DEVICE_EDGES):
        edges = slice(bounds[first], bounds[last])
        own = source[edges]
        sources = torch.unique(own)
        limits = torch.cat([sources, sources.new_tensor([num_rows])])
        by_source, source_starts = _sorted(own, limits)
        tiles.append(
            MessageTile(
                group,
                slice(first, last),
                edges,
                torch.stack([own, target[edges]]),
                starts[first : last + 1] - edges.start,
                torch.arange(own.shape[0], device=source.device),
                by_source,
                sources,
                source_starts,
            )
        )
    return tiles


def _sorted(source: torch.Tensor, limits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the order by source, and where each of ``limits`` begins in it."""
    ordered, by_source = torch.sort(source, stable=True)
    return by_source, torch.searchsorted(ordered, limits)


def _cuts(bounds: list[int], runs: list[Run], size: int) -> list[tuple[int, int, int]]:
    """Return group, first and last atom of each tile."""
    cuts = []
    for run in runs:
        first = run.start
        for atom in range(run.start, run.stop):
            if atom > first and bounds[atom + 1] - bounds[first] > size:
                cuts.append((run.group, first, atom))
                first = atom
        cuts.append((run.group, first, run.stop))
    return cuts
