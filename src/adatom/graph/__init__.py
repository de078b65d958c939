"""Neighbor search, Verlet skin and partitions."""
