"""What one worker has of a system: own atoms, the edges it sums over, and what these need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from adatom.core.errors import GraphError, unknown_name
from adatom.graph.candidates import Candidates, SortedCandidates, sort_candidates
from adatom.graph.edges import Edges
from adatom.graph.halo import Halo, atoms_needed
from adatom.graph.links import Links
from adatom.graph.neighbors import check_limits, find_backend
from adatom.graph.partition import index_partition, spatial_partition
from adatom.graph.periodic_systems import PeriodicSystems
from adatom.graph.search_into import candidates_into
from adatom.graph.stored_search import MARGIN, Bounds, StoredSearch

#: Angstrom that atoms move (root mean square) before they are divided anew: up to twice as much is
#: what halos grow by.
_MOVED = 1.0
#: The choices of ``partition``.
PARTITIONS = ("spatial", "index")


@dataclass(frozen=True, eq=False)
class Domain:
    """A worker's part of a system. Rows are own atoms, in order, then those of the halo.

    Attributes:
        halo: Connects the rows with those of the other workers.
        own: ``[n]`` int64, increasing; own atoms, numbered in the system.
        owner: ``[N]`` int64; the worker of each atom.
        edges: All edges into own atoms, and as far as layers need them, into others; numbered in
            the system.
        source: ``[E]`` int64; row of atom j.
        target: ``[E]`` int64, non-decreasing; row of atom i.
        depths: ``[n + H]`` int64; through how many edges an atom is seen by own ones.
    """

    halo: Halo
    own: torch.Tensor
    owner: torch.Tensor
    edges: Edges
    source: torch.Tensor
    target: torch.Tensor
    depths: torch.Tensor

    @property
    def atoms(self) -> torch.Tensor:
        """The atoms of the rows, numbered in the system, ``[n + H]`` int64."""
        return torch.cat([self.own, self.halo.needed])

    def into(self, depth: int) -> torch.Tensor | None:
        """Return the edges into atoms up to a depth, ``[E']`` int64, or None if they all are."""
        near = self.depths[self.target] <= depth
        return None if bool(near.all()) else near.nonzero().squeeze(1)


class Domains:
    """Give a worker its part of a system along a trajectory.

    All workers call :meth:`of` with the same system. It is searched anew when a pair that was not
    found could have come within the cutoff for any worker (Verlet's rule, see
    :class:`adatom.graph.VerletList`), and divided anew if atoms have moved by 1 angstrom (root
    mean square) then; in between, atoms stay with their worker.

    Args:
        links: Connects the workers.
        cutoff: In angstrom.
        layers: 1 if features are exchanged; otherwise the number of layers that a worker
            computes on its own, for which it needs the atoms that many cutoffs away.
        max_neighbors: As for :func:`adatom.graph.neighbor_list`.
        skin: In angstrom; 0 searches whenever anything moved.
        backend: As for :func:`adatom.graph.neighbor_list`.
        partition: ``"spatial"`` with the atoms of its boundary exchanged, or the simple twin
            ``"index"``, where every worker gets the rows of all atoms.

    Attributes:
        num_searches: How many searches were made so far.

    Raises:
        GraphError: If an argument is out of range.
        UnknownNameError: If there is no such partition.
    """

    def __init__(
        self,
        links: Links,
        cutoff: float,
        *,
        layers: int = 1,
        max_neighbors: int | None = None,
        skin: float = 0.0,
        backend: str = "auto",
        partition: Literal["spatial", "index"] = "spatial",
    ) -> None:
        check_limits(cutoff, max_neighbors)
        if not 0.0 <= skin < float("inf"):
            raise GraphError(f"The Verlet skin is {skin}", expected="0 angstrom or more")
        if partition not in PARTITIONS:
            raise unknown_name("partition", partition, PARTITIONS)
        self.links = links
        self.cutoff, self.skin, self.layers = cutoff, skin, layers
        self.max_neighbors = max_neighbors
        self.partition = partition
        self.num_searches = 0
        self._search = find_backend(backend)
        self._stored: StoredSearch | None = None
        self._domain: Domain | None = None
        self._latest: Edges | None = None
        self._divided: tuple[PeriodicSystems, torch.Tensor] | None = None

    def of(self, pos: torch.Tensor, cell: torch.Tensor, pbc: torch.Tensor) -> Domain:
        """Return this worker's part of a system.

        Args:
            pos: ``[N, 3]`` in angstrom.
            cell: ``[1, 3, 3]`` in angstrom.
            pbc: ``[1, 3]`` bool.

        Raises:
            GraphError: As :func:`adatom.graph.neighbor_list`.
        """
        now = PeriodicSystems.checked(pos, cell, pbc)
        found = self._still(now)
        # A worker that searches alone would wait for the others for ever.
        alone = torch.tensor([int(found is None)], device=now.pos.device)
        if bool(self.links.sum(alone).any()) or found is None:
            return self._divide(now)
        self._stored, bounds = found
        return self._current(self._stored, now, bounds)

    def _still(self, now: PeriodicSystems) -> tuple[StoredSearch, Bounds] | None:
        """Return the stored search if it has every pair that is now within the cutoff."""
        stored = self._stored
        if stored is None or not now.same_atoms(stored.systems):
            return None
        bounds = stored.bounds(now, self.cutoff)
        if not self._reaches(bounds):
            rewrapped = stored.rewrapped(now)
            if rewrapped is None:
                return None
            stored, bounds = rewrapped, rewrapped.bounds(now, self.cutoff)
        return (stored, bounds) if self._reaches(bounds) else None

    def _reaches(self, bounds: Bounds) -> bool:
        return bounds.outside <= self.cutoff + self.skin + MARGIN

    def _divide(self, now: PeriodicSystems) -> Domain:
        owner = torch.zeros(now.num_atoms, dtype=torch.int64, device=now.pos.device)
        if self.links.rank == 0:
            owner = self._owners(now).to(owner)
        # Rounding may differ from machine to machine; the partition must not.
        owner = self.links.broadcast(owner)
        own = (owner == self.links.rank).nonzero().squeeze(1)
        candidates, depths = self._candidates(now, own)
        needed = atoms_needed(owner, self.links.rank, [candidates.source])
        if self.partition == "index":
            needed = (owner != self.links.rank).nonzero().squeeze(1)
        halo = Halo.between(self.links, owner, own, needed)
        rows = torch.cat([own, halo.needed])
        self._stored = StoredSearch.of(now, candidates, self.cutoff)
        self.num_searches += 1
        empty = own.new_zeros(0)
        nothing = Edges(empty.new_zeros(2, 0), empty.new_zeros(0, 3), empty.new_zeros(1))
        self._domain = Domain(halo, own, owner, nothing, empty, empty, depths[rows])
        self._latest = None
        return self._current(self._stored, now, self._stored.bounds(now, self.cutoff))

    def _owners(self, now: PeriodicSystems) -> torch.Tensor:
        """Return the worker of each atom, as before if most atoms are about where they were."""
        if self.partition == "index":
            return index_partition(now.num_atoms, self.links.size)
        if self._divided is None or not _about_the_same(now, self._divided[0]):
            owner = spatial_partition(now, self.cutoff, self.links.size)
            self._divided = (now.copy(), owner)
        return self._divided[1]

    def _candidates(
        self, now: PeriodicSystems, own: torch.Tensor
    ) -> tuple[SortedCandidates, torch.Tensor]:
        """Search layer by layer; return the pairs, and the depth ``[N]`` of all atoms."""
        depths = own.new_full((now.num_atoms,), self.layers)
        depths[own] = 0
        parts, targets = [], own
        for depth in range(self.layers):
            found = candidates_into(now, targets, self.cutoff + self.skin, self._search)
            parts.append(found)
            seen = torch.zeros_like(depths, dtype=torch.bool)
            seen[found.source] = True
            # Atoms of the last layer, which are no targets, have the depth of those never seen.
            targets = (seen & (depths == self.layers)).nonzero().squeeze(1)
            depths[targets] = depth + 1
        columns = (torch.cat(column) for column in zip(*parts, strict=True))
        return sort_candidates(Candidates(*columns), now.num_atoms), depths

    def _current(self, stored: StoredSearch, now: PeriodicSystems, bounds: Bounds) -> Domain:
        edges = stored.edges(now, bounds, self.cutoff, self.max_neighbors)
        domain = self._domain
        if domain is None:
            raise GraphError("The system was not divided", expected="a call of Domains.of")
        if edges is self._latest:
            return domain
        self._latest = edges
        row_of = edges.index.new_full((now.num_atoms,), -1)
        row_of[domain.atoms] = torch.arange(domain.halo.num_rows, device=row_of.device)
        source, target = row_of[edges.index]
        local = edges
        if self.layers > 1:
            target, order = torch.sort(target, stable=True)
            source = source[order]
            local = Edges(edges.index[:, order], edges.offsets[order], edges.counts)
        self._domain = replace(domain, edges=local, source=source, target=target)
        return self._domain


def _about_the_same(now: PeriodicSystems, then: PeriodicSystems) -> bool:
    """Tell whether these are the same atoms near their places, images of atoms being alike."""
    if not now.same_atoms(then) or not now.num_atoms:
        return False
    moved = now.pos @ torch.linalg.inv(now.cell[0]) - then.pos @ torch.linalg.inv(then.cell[0])
    moved = torch.where(now.pbc[0], moved - moved.round(), moved) @ now.cell[0]
    return bool(moved.square().sum(1).mean() < _MOVED**2)
