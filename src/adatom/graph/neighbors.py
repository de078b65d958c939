"""Neighbor search: one signature, one file per backend."""

from __future__ import annotations

import torch

from adatom.graph.edges import Edges


def neighbor_list(
    pos: torch.Tensor,
    cell: torch.Tensor,
    pbc: torch.Tensor,
    cutoff: float,
    *,
    natoms: torch.Tensor | None = None,
    max_neighbors: int | None = None,
    backend: str = "auto",
) -> Edges:
    """Find all directed edges with ``0 < |r_j - r_i + n @ cell| <= cutoff``.

    Args:
        pos: ``[N, 3]`` positions in angstrom; atoms may lie outside the cell.
        cell: ``[B, 3, 3]`` (or ``[3, 3]`` for one system) lattice vectors as rows.
        pbc: ``[B, 3]`` (or ``[3]``) bool, any mixture per system.
        cutoff: In angstrom.
        natoms: ``[B]`` atoms per system; None means one system.
        max_neighbors: Keep about this many nearest sources per target (with all those degenerate
            with the last one); None keeps all.
        backend: ``"auto"``, ``"vesin"``, ``"torch"`` or ``"ase"``.

    Returns:
        The edges, sorted by target and grouped by system.

    Raises:
        GraphError: If the input cannot have a neighbor list (zero cell with pbc, NaN, ...).
    """
    raise NotImplementedError
