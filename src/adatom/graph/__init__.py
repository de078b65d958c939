"""Neighbor search, Verlet skin and partitions."""

from adatom.graph.edges import Edges
from adatom.graph.neighbors import neighbor_list
from adatom.graph.verlet import VerletList

__all__ = ["Edges", "VerletList", "neighbor_list"]
