"""Neighbor lists that are reused while atoms move little (Verlet skin)."""

from __future__ import annotations

import torch

from adatom.core.errors import GraphError
from adatom.graph.candidates import Candidates
from adatom.graph.edges import Edges
from adatom.graph.neighbors import check_limits, choose_backend
from adatom.graph.periodic_systems import PeriodicSystems
from adatom.graph.select_edges import keep_within, sort_candidates


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
        choose_backend(backend, torch.device("cpu"))
        if not 0.0 <= skin < float("inf"):
            raise GraphError(f"The Verlet skin is {skin}", expected="0 angstrom or more")
        self.cutoff = cutoff
        self.skin = skin
        self.max_neighbors = max_neighbors
        self.backend = backend
        self.num_searches = 0
        self._searched: PeriodicSystems | None = None
        self._candidates: Candidates | None = None

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
        systems = PeriodicSystems.checked(pos, cell, pbc, natoms)
        candidates = self._candidates
        if candidates is None or not self._still_complete(systems):
            search = choose_backend(self.backend, pos.device)
            found = search(systems, self.cutoff + self.skin)
            candidates = sort_candidates(found, systems.num_atoms)
            self._candidates = candidates
            self._searched = systems.copy()
            self.num_searches += 1
        return keep_within(systems, candidates, self.cutoff, self.max_neighbors)

    def _still_complete(self, now: PeriodicSystems) -> bool:
        """Tell whether every pair now within the cutoff is in the list.

        Let ``F`` be the deformation of the cell since the search, ``r = r0 F + u``. A pair vector
        is then ``v = v0 F + u_j - u_i``, so a pair with ``|v| <= cutoff`` was found if
        ``|F^-1| (cutoff + 2 max |u|) <= cutoff + skin``, with the spectral norm.
        """
        then = self._searched
        if then is None or not now.same_atoms(then):
            return False
        if torch.equal(now.cell, then.cell):
            moved = now.pos - then.pos
            farthest = (moved * moved).sum(1).amax().sqrt() if len(moved) else moved.sum()
            return bool(2 * farthest <= self.skin)
        deformation = torch.linalg.solve(then.cell, now.cell)
        moved = now.pos - torch.bmm(then.pos.unsqueeze(1), deformation[now.batch]).squeeze(1)
        farthest = now.pos.new_zeros(now.num_systems).scatter_reduce(
            0, now.batch, torch.linalg.vector_norm(moved, dim=1), "amax"
        )
        shrunk = torch.linalg.matrix_norm(torch.linalg.inv(deformation), ord=2)
        return bool((shrunk * (self.cutoff + 2 * farthest) <= self.cutoff + self.skin).all())
