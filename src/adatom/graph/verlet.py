"""Neighbor lists that are reused while atoms move little (Verlet skin)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from adatom.core.errors import GraphError
from adatom.graph.candidates import SortedCandidates, sort_candidates
from adatom.graph.edges import Edges
from adatom.graph.neighbors import check_limits, find_backend
from adatom.graph.periodic_systems import PeriodicSystems
from adatom.graph.select_edges import select_edges


class VerletList:
    """Give the edges along a trajectory, searching anew only when it is necessary.

    A search finds all pairs within ``cutoff + skin``; later calls keep those that are within
    ``cutoff`` at that moment. The edges are the very ones that
    :func:`adatom.graph.neighbor_list` finds for the same structure, in the same order: a new
    search is made as soon as a pair outside the list could have come within the cutoff
    (Verlet, Phys. Rev. 159, 98, 1967; here also under changes of the cell).

    Not safe for calls from several threads at once.

    Args:
        cutoff: In angstrom.
        skin: In angstrom; 0 searches whenever anything moved.
        max_neighbors: As for :func:`adatom.graph.neighbor_list`.
        backend: As for :func:`adatom.graph.neighbor_list`.

    Attributes:
        cutoff: In angstrom.
        skin: In angstrom.
        max_neighbors: Limit on the neighbors of an atom, or None.
        backend: Name of the backend.
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
    ) -> None:
        check_limits(cutoff, max_neighbors)
        find_backend(backend)
        if not 0.0 <= skin < float("inf"):
            raise GraphError(f"The Verlet skin is {skin}", expected="0 angstrom or more")
        self.cutoff = cutoff
        self.skin = skin
        self.max_neighbors = max_neighbors
        self.backend = backend
        self.num_searches = 0
        self._search: _Search | None = None

    def edges(
        self,
        pos: torch.Tensor,
        cell: torch.Tensor,
        pbc: torch.Tensor,
        natoms: torch.Tensor | None = None,
    ) -> Edges:
        """Return exactly the edges within the cutoff.

        Args:
            pos: ``[N, 3]`` in angstrom. Atoms may be wrapped into the cell or not; an atom that
                jumps to another image causes a new search.
            cell: ``[B, 3, 3]`` or ``[3, 3]`` in angstrom.
            pbc: ``[B, 3]`` or ``[3]`` bool.
            natoms: ``[B]``; None means one system.

        Raises:
            GraphError: As :func:`adatom.graph.neighbor_list`.
        """
        search = self._search
        if search is not None and search.has_input(pos, cell, pbc, natoms):
            systems = search.systems.moved_to(pos)
        else:
            systems = PeriodicSystems.checked(pos, cell, pbc, natoms)
        if search is None or not search.covers(systems, self.cutoff, self.skin):
            found = find_backend(self.backend)(systems, self.cutoff + self.skin)
            search = _Search(
                cell=cell.detach().clone(),
                pbc=pbc.clone(),
                natoms=None if natoms is None else natoms.clone(),
                systems=systems.copy(),
                candidates=sort_candidates(found, systems.num_atoms),
            )
            self._search = search
            self.num_searches += 1
        return select_edges(systems, search.candidates, self.cutoff, self.max_neighbors)


@dataclass(slots=True, frozen=True)
class _Search:
    """The pairs of one search, and for which structure it was made.

    Attributes:
        cell: As given by the caller, copied; likewise ``pbc`` and ``natoms``.
        pbc: See there.
        natoms: See there.
        systems: The same and the positions, checked.
        candidates: All pairs within cutoff and skin.
    """

    cell: torch.Tensor
    pbc: torch.Tensor
    natoms: torch.Tensor | None
    systems: PeriodicSystems
    candidates: SortedCandidates

    def has_input(
        self,
        pos: torch.Tensor,
        cell: torch.Tensor,
        pbc: torch.Tensor,
        natoms: torch.Tensor | None,
    ) -> bool:
        """Tell whether at most positions differ, so that nothing else needs checking again."""
        return (
            pos.shape == self.systems.pos.shape
            and _same(cell, self.cell)
            and _same(pbc, self.pbc)
            and _same(natoms, self.natoms)
        )

    def covers(self, now: PeriodicSystems, cutoff: float, skin: float) -> bool:
        """Tell whether every pair that is now within the cutoff is among the candidates.

        Let ``F`` be the deformation of the cell since the search, ``r = r0 F + u``. A pair vector
        is then ``v = v0 F + u_j - u_i``, so a pair with ``|v| <= cutoff`` was found if
        ``|F^-1| (cutoff + 2 max |u|) <= cutoff + skin``, with the spectral norm.
        """
        then = self.systems
        if not now.same_atoms(then):
            return False
        if len(now.pos) == 0:
            return True
        if now.cell is then.cell or torch.equal(now.cell, then.cell):
            moved = now.pos - then.pos
            farthest = (moved * moved).sum(1).amax().sqrt()
            return bool(2 * farthest <= skin)
        deformation = torch.linalg.solve(then.cell, now.cell)
        moved = now.pos - torch.bmm(then.pos.unsqueeze(1), deformation[now.batch]).squeeze(1)
        farthest = now.pos.new_zeros(now.num_systems).scatter_reduce(
            0, now.batch, torch.linalg.vector_norm(moved, dim=1), "amax"
        )
        shrunk = torch.linalg.matrix_norm(torch.linalg.inv(deformation), ord=2)
        return bool((shrunk * (cutoff + 2 * farthest) <= cutoff + skin).all())


def _same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
