"""Edges grouped by target in chunks of equal size, so that sums over neighbors are products."""

from __future__ import annotations

from typing import NamedTuple

import torch

#: Edges per chunk. Larger chunks make better products, smaller ones have fewer empty slots.
_CHUNK = 16


class TargetChunks(NamedTuple):
    """Chunks of edges that share a target atom; the last chunk of an atom has empty slots.

    Attributes:
        edges: ``[chunks, size]`` int64; the edge in each slot. Empty slots repeat an edge of the
            same chunk, and whatever multiplies them must be zero.
        filled: ``[chunks, size]`` bool; False in empty slots.
        atoms: ``[chunks]`` int64; the target.
        num_atoms: N.
    """

    edges: torch.Tensor
    filled: torch.Tensor
    atoms: torch.Tensor
    num_atoms: int

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows ``[E, k]`` of the edges in their slots, ``[chunks, size, k]``."""
        return rows.index_select(0, self.edges.flatten()).view(*self.edges.shape, rows.shape[1])

    def gather_signs(self, rows: torch.Tensor, signed: int) -> torch.Tensor:
        """Return the rows of the edges with each sign of m in a slot of its own.

        Args:
            rows: ``[E, k]``; if signed, all +m columns come before all -m columns.
            signed: 1 for m >= 1, 0 for m = 0.

        Returns:
            ``[chunks, size, k]``, or ``[chunks, size * 2, k / 2]`` if signed.
        """
        width = rows.shape[1] >> signed
        chunks, size = self.edges.shape
        return rows.index_select(0, self.edges.flatten()).view(chunks, size << signed, width)

    def slots(self, num_edges: int) -> torch.Tensor:
        """Return the slot ``[E]`` of each edge, counted over all chunks."""
        # Empty slots write to a row that is not returned.
        edges = torch.where(self.filled, self.edges, num_edges).flatten()
        numbers = torch.arange(edges.shape[0], device=edges.device)
        return edges.new_zeros(num_edges + 1).scatter(0, edges, numbers)[:num_edges]

    def sum_to_atoms(self, rows: torch.Tensor) -> torch.Tensor:
        """Sum ``[chunks, ...]`` over the chunks of each atom, ``[N, ...]``."""
        zeros = rows.new_zeros((self.num_atoms, *rows.shape[1:]))
        return zeros.index_add(0, self.atoms, rows)


def target_chunks(target: torch.Tensor, num_atoms: int, size: int = _CHUNK) -> TargetChunks:
    """Group edges by target.

    Args:
        target: ``[E]`` int64, non-decreasing.
        num_atoms: N.
        size: Slots per chunk.
    """
    # Not bincount: compiled ahead of time, it forgets the number of atoms.
    degrees = target.new_zeros(num_atoms).index_add(0, target, torch.ones_like(target))
    chunks = (degrees + size - 1) // size
    # Not int(...), which would ask for the value while a program is traced.
    total: int = chunks.sum().item()  # type: ignore[assignment]
    atoms = torch.repeat_interleave(chunks, output_size=total)
    first_chunk = torch.cumsum(chunks, 0) - chunks
    first_edge = torch.cumsum(degrees, 0) - degrees
    start = (torch.arange(total, device=target.device) - first_chunk[atoms]) * size
    slots = start.unsqueeze(1) + torch.arange(size, device=target.device)
    filled = slots < degrees[atoms].unsqueeze(1)
    edges = first_edge[atoms].unsqueeze(1) + torch.where(filled, slots, start.unsqueeze(1))
    return TargetChunks(edges, filled, atoms, num_atoms)
