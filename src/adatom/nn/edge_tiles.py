"""Edges in groups that are computed one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from adatom.nn.experts import Run
from adatom.nn.target_chunks import target_chunks

#: Edges per tile on a processor: a few MB of intermediates, which stay in the cache.
_CPU_EDGES = 512
#: Elsewhere, where few large operations pay more than cached ones.
_DEVICE_EDGES = 16384
#: Atoms per block at least: the maps on each atom read matrices that are larger than one tile.
_BLOCK_ATOMS = 32


class EdgeTile(NamedTuple):
    """All edges into consecutive atoms that share expert weights.

    Attributes:
        edges: The edges.
        source: ``[n]`` int64; atom j.
        target: ``[n]`` int64; atom i.
        pairs: ``[n]`` int64; see :class:`adatom.nn.radial.RadialInputs`.
        chunk_atoms: ``[chunks]`` int64; target of each chunk, counted from the first of the block.
        edge_of_slot: ``[chunks * size]`` int64, counted from the first edge of the tile.
        slot_of_edge: ``[n]`` int64.
    """

    edges: slice
    source: torch.Tensor
    target: torch.Tensor
    pairs: torch.Tensor
    chunk_atoms: torch.Tensor
    edge_of_slot: torch.Tensor
    slot_of_edge: torch.Tensor

    @property
    def num_edges(self) -> int:
        """Edges n."""
        return int(self.edges.stop - self.edges.start)

    @property
    def num_chunks(self) -> int:
        """Chunks of slots."""
        return self.chunk_atoms.shape[0]


@dataclass(frozen=True)
class AtomBlock:
    """Consecutive atoms that share expert weights, and the tiles of their edges.

    Attributes:
        group: Number of the expert weights.
        atoms: The atoms.
        tiles: All edges into them.
    """

    group: int
    atoms: slice
    tiles: tuple[EdgeTile, ...]

    @property
    def num_atoms(self) -> int:
        """Number of atoms."""
        return int(self.atoms.stop - self.atoms.start)


def atom_blocks(
    source: torch.Tensor,
    target: torch.Tensor,
    pairs: torch.Tensor,
    runs: list[Run],
    num_atoms: int,
    edges_per_tile: int | None = None,
) -> list[AtomBlock]:
    """Divide the edges into tiles, and the tiles into blocks.

    Args:
        source: ``[E]`` int64.
        target: ``[E]`` int64, non-decreasing.
        pairs: ``[E]`` int64; see :class:`adatom.nn.radial.RadialInputs`.
        runs: Edges that share expert weights, each beginning with a new atom.
        num_atoms: N.
        edges_per_tile: About how many; tiles hold all edges of an atom. None chooses by device.

    Returns:
        Blocks in order. Atoms without edges may be in none.
    """
    if not source.shape[0]:
        return []
    chunks = target_chunks(target, num_atoms)
    slots = chunks.slots(target.shape[0])
    size = chunks.edges.shape[1]
    blocks: list[AtomBlock] = []
    for group, pieces in _pieces(target, chunks.edges[:, 0], runs, num_atoms, edges_per_tile):
        first = pieces[0][2].start
        tiles = tuple(
            EdgeTile(
                edges,
                source[edges],
                target[edges],
                pairs[edges],
                chunks.atoms[own] - first,
                (chunks.edges[own] - edges.start).flatten(),
                slots[edges] - own.start * size,
            )
            for edges, own, _ in pieces
        )
        blocks.append(AtomBlock(group, slice(first, pieces[-1][2].stop), tiles))
    return blocks


_Piece = tuple[slice, slice, slice]


def _pieces(
    target: torch.Tensor,
    first_edges: torch.Tensor,
    runs: list[Run],
    num_atoms: int,
    edges_per_tile: int | None,
) -> list[tuple[int, list[_Piece]]]:
    """Return the group of each block, and edges, chunks and atoms of each of its tiles."""
    aim = edges_per_tile or (_CPU_EDGES if target.device.type == "cpu" else _DEVICE_EDGES)
    atoms = torch.arange(num_atoms + 1, device=target.device)
    first = torch.searchsorted(target, atoms)
    first_chunk = torch.searchsorted(first_edges.contiguous(), first).tolist()
    first_edge = first.tolist()
    blocks: list[tuple[int, list[_Piece]]] = []
    for run in runs:
        start, stop = int(target[run.start]), int(target[run.stop - 1]) + 1
        length = (run.stop - run.start) / max(1, round((run.stop - run.start) / aim))
        pieces: list[_Piece] = []
        for atom in range(start + 1, stop + 1):
            count = first_edge[atom] - first_edge[start]
            following = first_edge[min(atom + 1, stop)] - first_edge[atom]
            # As near to the aim as whole atoms allow.
            if not count or (atom < stop and count + following / 2 < length):
                continue
            edges = slice(first_edge[start], first_edge[atom])
            own = slice(first_chunk[start], first_chunk[atom])
            pieces.append((edges, own, slice(start, atom)))
            start = atom
            if atom == stop or atom - pieces[0][2].start >= _BLOCK_ATOMS:
                blocks.append((run.group, pieces))
                pieces = []
    return blocks
