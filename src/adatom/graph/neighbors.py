"""Neighbor search: one signature, one file per backend."""

from __future__ import annotations

from collections.abc import Callable

import torch

from adatom.core.errors import GraphError, did_you_mean
from adatom.graph.ase_backend import ase_candidates
from adatom.graph.auto_backend import auto_candidates
from adatom.graph.candidates import Candidates, sort_candidates
from adatom.graph.edges import Edges
from adatom.graph.periodic_systems import PeriodicSystems
from adatom.graph.select_edges import select_edges
from adatom.graph.torch_backend import torch_candidates
from adatom.graph.vesin_backend import vesin_candidates

#: By name. A backend may return too many pairs and any order, but never too few.
BACKENDS: dict[str, Callable[[PeriodicSystems, float], Candidates]] = {
    "auto": auto_candidates,
    "vesin": vesin_candidates,
    "torch": torch_candidates,
    "ase": ase_candidates,
}


def neighbor_list(
    pos: torch.Tensor,
    cell: torch.Tensor,
    pbc: torch.Tensor,
    cutoff: float,
    *,
    natoms: torch.Tensor | None = None,
    max_neighbors: int | None = None,
    backend: str = "auto",
    min_distance: float = 0.0,
) -> Edges:
    """Find all directed edges with ``0 < |r_j - r_i + n @ cell| <= cutoff``.

    An atom's own periodic images are neighbors like any other. Atoms closer than 1e-6 angstrom
    count as one point and have no edge. The result does not depend on the backend: which pairs
    are edges is decided by the same float64 arithmetic for all of them.

    Args:
        pos: ``[N, 3]`` positions in angstrom; atoms may lie outside the cell.
        cell: ``[B, 3, 3]`` (or ``[3, 3]`` for one system) lattice vectors as rows. Rows of
            directions that are not periodic are ignored.
        pbc: ``[B, 3]`` (or ``[3]``) bool, any mixture per system.
        cutoff: In angstrom.
        natoms: ``[B]`` atoms per system; None means one system.
        max_neighbors: Keep about this many nearest sources per target (with all those degenerate
            with the last one, see :func:`adatom.graph.max_neighbors.nearest_mask`); None keeps
            all.
        backend: ``"vesin"`` (CPU), ``"torch"`` (any device), ``"ase"`` (slow, for tests), or
            ``"auto"``: vesin on the CPU unless there is much vacuum, torch otherwise.
        min_distance: Refuse atoms, periodic images included, that are nearer than this (angstrom).

    Returns:
        The edges on the device of ``pos``, sorted by target, then source, then offset, and
        grouped by system.

    Raises:
        GraphError: If the input cannot have a neighbor list (zero cell with pbc, NaN, ...), or
            two atoms are too near.
    """
    search = find_backend(backend)
    systems = PeriodicSystems.checked(pos, cell, pbc, natoms)
    check_limits(cutoff, max_neighbors)
    candidates = sort_candidates(search(systems, cutoff), systems.num_atoms)
    return select_edges(systems, candidates, cutoff, max_neighbors, min_distance)


def find_backend(name: str) -> Callable[[PeriodicSystems, float], Candidates]:
    """Return the search function called ``name``.

    Raises:
        GraphError: If there is no such backend.
    """
    if name not in BACKENDS:
        raise GraphError(
            f"Unknown neighbor-list backend {name!r}{did_you_mean(name, BACKENDS)}",
            expected=f"one of: {', '.join(BACKENDS)}",
        )
    return BACKENDS[name]


def check_limits(cutoff: float, max_neighbors: int | None) -> None:
    """Refuse a cutoff that is not a positive finite length, or fewer than one neighbor.

    Raises:
        GraphError: If one of them is out of range.
    """
    if not 0.0 < cutoff < float("inf"):
        raise GraphError(
            f"The cutoff is {cutoff}", expected="a positive, finite length in angstrom"
        )
    if max_neighbors is not None and max_neighbors < 1:
        raise GraphError(
            f"max_neighbors is {max_neighbors}",
            expected="a positive integer, or None for all neighbors within the cutoff",
        )
