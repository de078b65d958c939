"""The edge-degree embedding of frozen weights, tile by tile, with a hand-written adjoint."""

from __future__ import annotations

import torch

from adatom.nn.frozen_radial import FrozenRadial
from adatom.nn.tiled_edges import TiledEdges


class TiledDegrees:
    """Sums over edges of rotated radial functions.

    Args:
        radial: Makes the features ``(degree, channel)`` of order 0 of each edge.
        edges: All edges.
        scale: Multiplies the sums.
    """

    def __init__(self, radial: FrozenRadial, edges: TiledEdges, scale: float) -> None:
        self.radial = radial
        self.edges = edges
        self.scale = scale

    def add(self, out: torch.Tensor) -> None:
        """Add the sums to ``out [N, S, C]``, in place."""
        radial, lmax = self.radial, self.edges.functions.layout.lmax
        for block in self.edges.blocks:
            own = out[block.atoms]
            for tile in block.tiles:
                geometry = self.edges.geometry(tile)
                hidden, _ = radial.hidden(geometry.basis, tile.pairs)
                features = torch.addmm(radial.bias, hidden, radial.weight.T)
                slots = features.index_select(0, tile.edge_of_slot).mul_(self.scale)
                slots = slots.view(tile.num_chunks, -1, lmax + 1, out.shape[2])
                entries = geometry.returns[0].transpose(1, 2)
                for degree in range(lmax + 1):
                    rows = slice(degree**2, (degree + 1) ** 2)
                    sums = torch.bmm(entries[:, rows], slots[:, :, degree])
                    own[:, rows].index_add_(0, tile.chunk_atoms, sums)

    def adjoint(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the vectors ``[E, 3]`` from that of the sums ``[N, S, C]``."""
        radial, lmax = self.radial, self.edges.functions.layout.lmax
        to_vectors = torch.zeros_like(self.edges.vectors)
        for block in self.edges.blocks:
            for tile in block.tiles:
                geometry = self.edges.geometry(tile)
                hidden, states = radial.hidden(geometry.basis, tile.pairs)
                features = torch.addmm(radial.bias, hidden, radial.weight.T)
                slots = features.index_select(0, tile.edge_of_slot)
                slots = slots.view(tile.num_chunks, -1, lmax + 1, gradient.shape[2])
                own = gradient[block.atoms].index_select(0, tile.chunk_atoms).mul_(self.scale)
                to_slots = torch.empty_like(slots)
                to_returns = torch.empty_like(geometry.returns[0])
                for degree in range(lmax + 1):
                    rows = slice(degree**2, (degree + 1) ** 2)
                    part = own[:, rows]
                    to_slots[:, :, degree] = torch.bmm(geometry.returns[0][:, :, rows], part)
                    to_returns[:, :, rows] = torch.bmm(slots[:, :, degree], part.transpose(1, 2))
                flat = to_slots.view(-1, radial.weight.shape[0])
                to_features = flat.index_select(0, tile.slot_of_edge)
                to_basis = radial.hidden_adjoint(to_features @ radial.weight, states)
                to_vectors[tile.edges] = self.edges.functions.adjoint(
                    geometry, tile, None, [to_returns], to_basis
                )
        return to_vectors
