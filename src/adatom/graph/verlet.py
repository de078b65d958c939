"""Neighbor lists that are reused while atoms move little (Verlet skin)."""

from __future__ import annotations

from typing import NamedTuple

import torch

from adatom.core.errors import GraphError
from adatom.graph.candidates import sort_candidates
from adatom.graph.edges import Edges
from adatom.graph.neighbors import check_limits, find_backend
from adatom.graph.periodic_systems import PeriodicSystems
from adatom.graph.stored_search import MARGIN, Bounds, StoredSearch


class VerletList:
    """Give the edges along a trajectory, searching anew only when it is necessary.

    A search finds all pairs within ``cutoff + skin``; later calls keep those that are within
    ``cutoff`` at that moment, and measure only the pairs that may have crossed it. The edges are
    the very ones that :func:`adatom.graph.neighbor_list` finds for the same structure, in the same
    order: a new search is made as soon as a pair outside the list could have come within the
    cutoff (Verlet, Phys. Rev. 159, 98, 1967; here also under changes of the cell). Atoms that are
    wrapped into the cell cause no search.

    Not safe for calls from several threads at once.

    Args:
        cutoff: In angstrom.
        skin: In angstrom; 0 searches whenever anything moved.
        max_neighbors: As for :func:`adatom.graph.neighbor_list`.
        backend: As for :func:`adatom.graph.neighbor_list`.
        min_distance: As for :func:`adatom.graph.neighbor_list`; looked at when a search is made.

    Attributes:
        cutoff: In angstrom.
        skin: In angstrom.
        max_neighbors: Limit on the neighbors of an atom, or None.
        backend: Name of the backend.
        min_distance: Of two atoms, in angstrom.
        num_searches: How many searches were made so far.

    Raises:
        GraphError: If an argument is out of range.
    """

    def __init__(
        self,
        cutoff: float,
        skin: float = 0.5,
        *,
        max_neighbors: int | None = None,
        backend: str = "auto",
        min_distance: float = 0.0,
    ) -> None:
        check_limits(cutoff, max_neighbors)
        find_backend(backend)
        if not 0.0 <= skin < float("inf"):
            raise GraphError(f"The Verlet skin is {skin}", expected="0 angstrom or more")
        self.cutoff = cutoff
        self.skin = skin
        self.max_neighbors = max_neighbors
        self.backend = backend
        self.min_distance = min_distance
        self.num_searches = 0
        self._input: _Input | None = None
        self._search: StoredSearch | None = None

    def edges(
        self,
        pos: torch.Tensor,
        cell: torch.Tensor,
        pbc: torch.Tensor,
        natoms: torch.Tensor | None = None,
    ) -> Edges:
        """Return exactly the edges within the cutoff.

        Args:
            pos: ``[N, 3]`` in angstrom. Atoms may be wrapped into the cell or not.
            cell: ``[B, 3, 3]`` or ``[3, 3]`` in angstrom.
            pbc: ``[B, 3]`` or ``[3]`` bool.
            natoms: ``[B]``; None means one system.

        Returns:
            The edges. While they stay the same, so does the object: do not change its tensors.

        Raises:
            GraphError: As :func:`adatom.graph.neighbor_list`.
        """
        search, known = self._search, self._input
        if search is None or known is None:
            return self._searched(pos, cell, pbc, natoms)
        if known.has(pos, cell, pbc, natoms):
            now = search.systems.moved_to(pos)
        else:
            now = PeriodicSystems.checked(pos, cell, pbc, natoms)
            if not now.same_atoms(search.systems):
                return self._searched(pos, cell, pbc, natoms)
        bounds = search.bounds(now, self.cutoff)
        if not self._reaches(bounds):
            search = search.rewrapped(now)
            bounds = search.bounds(now, self.cutoff) if search is not None else bounds
            if search is None or not self._reaches(bounds):
                return self._searched(pos, cell, pbc, natoms)
            self._search = search
        return search.edges(now, bounds, self.cutoff, self.max_neighbors)

    def _reaches(self, bounds: Bounds) -> bool:
        """Tell whether every pair that is now within the cutoff was found (not so for NaN)."""
        return bounds.outside <= self.cutoff + self.skin + MARGIN

    def _searched(
        self,
        pos: torch.Tensor,
        cell: torch.Tensor,
        pbc: torch.Tensor,
        natoms: torch.Tensor | None,
    ) -> Edges:
        systems = PeriodicSystems.checked(pos, cell, pbc, natoms)
        found = find_backend(self.backend)(systems, self.cutoff + self.skin)
        candidates = sort_candidates(found, systems.num_atoms)
        search = StoredSearch.of(systems, candidates, self.cutoff, self.min_distance)
        self._search = search
        self._input = _Input.copied(pos, cell, pbc, natoms)
        self.num_searches += 1
        bounds = search.bounds(search.systems, self.cutoff)
        return search.edges(search.systems, bounds, self.cutoff, self.max_neighbors)


class _Input(NamedTuple):
    """What the caller gave at the last search, copied, apart from the positions' values."""

    shape: torch.Size
    cell: torch.Tensor
    pbc: torch.Tensor
    natoms: torch.Tensor | None

    @classmethod
    def copied(
        cls,
        pos: torch.Tensor,
        cell: torch.Tensor,
        pbc: torch.Tensor,
        natoms: torch.Tensor | None,
    ) -> _Input:
        sizes = None if natoms is None else natoms.clone()
        return cls(pos.shape, cell.detach().clone(), pbc.clone(), sizes)

    def has(
        self,
        pos: torch.Tensor,
        cell: torch.Tensor,
        pbc: torch.Tensor,
        natoms: torch.Tensor | None,
    ) -> bool:
        """Tell whether at most positions differ, so that nothing else needs checking again."""
        return (
            pos.shape == self.shape
            and pos.device == self.cell.device
            and _same(cell, self.cell)
            and _same(pbc, self.pbc)
            and _same(natoms, self.natoms)
        )


def _same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
