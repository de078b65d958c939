"""The edge list of a batch: which atoms see which, through which periodic image."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(slots=True)
class Edges:
    """Directed edges source j -> target i, both directions stored, sorted by target.

    Attributes:
        index: ``[2, E]`` int64; row 0 is the source j, row 1 the target i.
        offsets: ``[E, 3]`` int64; integer image n, so that the edge vector is
            ``r_j - r_i + n @ cell`` (angstrom).
        counts: ``[B]`` int64; edges per system. Edges are grouped by system in batch order.
    """

    index: torch.Tensor
    offsets: torch.Tensor
    counts: torch.Tensor

    @property
    def num_edges(self) -> int:
        """Number of directed edges E."""
        return int(self.index.shape[1])

    def vectors(self, pos: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        """Return the edge vectors ``r_j - r_i + n @ cell``.

        Args:
            pos: ``[N, 3]`` positions in angstrom.
            cell: ``[B, 3, 3]`` lattice vectors as rows, in angstrom.

        Returns:
            ``[E, 3]`` vectors in angstrom, differentiable with respect to ``pos`` and ``cell``.
        """
        source, target = self.index
        system = torch.repeat_interleave(
            torch.arange(len(self.counts), device=pos.device),
            self.counts,
            output_size=self.num_edges,
        )
        shift = torch.bmm(self.offsets.to(cell.dtype).unsqueeze(1), cell[system]).squeeze(1)
        return pos[source] - pos[target] + shift

    def to(self, device: torch.device | str) -> Edges:
        """Return a copy on ``device``."""
        return Edges(self.index.to(device), self.offsets.to(device), self.counts.to(device))
