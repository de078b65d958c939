"""Neighbor search, Verlet skin and partitions."""

from adatom.graph.edges import Edges
from adatom.graph.neighbors import neighbor_list

__all__ = ["Edges", "neighbor_list"]
