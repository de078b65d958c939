"""All edges of a layer in tiles, and their geometry as far as it may be kept."""

from __future__ import annotations

from functools import cached_property

import torch

from adatom.nn.edge_tiles import AtomBlock, EdgeTile
from adatom.nn.tile_geometry import EdgeFunctions, TileGeometry


class TiledEdges:
    """Edges whose geometry is computed tile by tile, for every use again or once.

    Args:
        functions: How vectors become geometry.
        vectors: ``[E, 3]`` in angstrom, detached.
        blocks: All edges.
        kept_edges: Of how many edges, from the first on, the geometry is kept.
    """

    def __init__(
        self,
        functions: EdgeFunctions,
        vectors: torch.Tensor,
        blocks: list[AtomBlock],
        kept_edges: int,
    ) -> None:
        self.functions = functions
        self.vectors = vectors
        self.blocks = blocks
        self._kept_edges = kept_edges
        self._kept: dict[int, TileGeometry] = {}

    @cached_property
    def tiles(self) -> list[EdgeTile]:
        """The tiles of all blocks."""
        return [tile for block in self.blocks for tile in block.tiles]

    def geometry(self, tile: EdgeTile) -> TileGeometry:
        """Return the geometry of a tile."""
        geometry = self._kept.get(tile.edges.start)
        if geometry is None:
            geometry = self.functions.geometry(self.vectors[tile.edges], tile)
            if tile.edges.stop <= self._kept_edges:
                self._kept[tile.edges.start] = geometry
        return geometry
