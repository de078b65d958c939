"""The result of a neighbor search, used again while atoms move little."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from adatom.graph.candidates import SortedCandidates, with_images
from adatom.graph.edges import Edges
from adatom.graph.max_neighbors import nearest_mask
from adatom.graph.overlap import require_apart
from adatom.graph.periodic_systems import PeriodicSystems
from adatom.graph.select_edges import SAME_POINT, are_edges, squared_distances, take_edges

#: Added to every bound on distances (angstrom), far more than the rounding of the arithmetic.
MARGIN = 1e-7


class Bounds(NamedTuple):
    """What the motion since the search leaves open, as distances at the search (angstrom).

    Attributes:
        apart: Pairs that were farther apart are not on one point now.
        inside: Pairs that were nearer are and were within the cutoff (unless on one point).
        outside: Pairs that were farther apart are and were beyond the cutoff.
    """

    apart: float
    inside: float
    outside: float


@dataclass(slots=True)
class StoredSearch:
    """The pairs of one search, their distances then, and the edges given out last; P pairs.

    Attributes:
        systems: The systems at the search; shares no memory with the caller's tensors.
        candidates: All pairs within the search radius, in order.
        within: ``[P]`` bool; which of them were edges at the search.
        by_distance: ``[P]`` int64; rows of the candidates by distance at the search.
        distances: ``[P]`` float64, increasing; distances at the search, angstrom.
        most_neighbors: Most candidates of one target.
        latest: Mask and edges of the last call, or None.
    """

    systems: PeriodicSystems
    candidates: SortedCandidates
    within: torch.Tensor
    by_distance: torch.Tensor
    distances: torch.Tensor
    most_neighbors: int
    latest: tuple[torch.Tensor, Edges] | None = None

    @classmethod
    def of(
        cls,
        systems: PeriodicSystems,
        candidates: SortedCandidates,
        cutoff: float,
        min_distance: float = 0.0,
    ) -> StoredSearch:
        """Measure the pairs that a search of ``systems`` found.

        Raises:
            GraphError: If two atoms are nearer than ``min_distance``.
        """
        square = squared_distances(systems, candidates)
        require_apart(systems, candidates, square, min_distance)
        distances, by_distance = torch.sort(square.sqrt())
        counts = torch.bincount(candidates.target, minlength=1)
        return cls(
            systems.copy(),
            candidates,
            are_edges(square, cutoff),
            by_distance,
            distances,
            int(counts.max()),
        )

    def bounds(self, now: PeriodicSystems, cutoff: float) -> Bounds:
        """Return what the motion of atoms and cells since the search means for distances.

        Let ``F`` be the deformation of the cell since the search, ``r = r0 F + u``. A pair vector
        is then ``v = v0 F + u_j - u_i``, hence ``|v| <= |F| |v0| + 2 max |u|`` and
        ``|v0| <= |F^-1| (|v| + 2 max |u|)`` with spectral norms. NaN where a position is.
        """
        then = self.systems
        if len(now.pos) == 0:
            return Bounds(0.0, cutoff, cutoff)
        if now.cell is then.cell or torch.equal(now.cell, then.cell):
            moved = now.pos - then.pos
            twice = 2.0 * float((moved * moved).sum(1).amax()) ** 0.5
            apart, inside, outside = twice + SAME_POINT, cutoff - twice, cutoff + twice
        else:
            deformation = torch.linalg.solve(then.cell, now.cell)
            moved = now.pos - torch.bmm(then.pos.unsqueeze(1), deformation[now.batch]).squeeze(1)
            farthest = now.pos.new_zeros(now.num_systems).scatter_reduce(
                0, now.batch, torch.linalg.vector_norm(moved, dim=1), "amax"
            )
            stretched = torch.linalg.matrix_norm(deformation, ord=2)
            shrunk = torch.linalg.matrix_norm(torch.linalg.inv(deformation), ord=2)
            limits = torch.stack(
                [
                    (shrunk * (SAME_POINT + 2 * farthest)).amax(),
                    ((cutoff - 2 * farthest) / stretched).amin(),
                    (shrunk * (cutoff + 2 * farthest)).amax(),
                ]
            )
            apart, inside, outside = limits.tolist()
            # A cell that shrank or grew may have brought every pair across.
            inside, outside = min(inside, cutoff), max(outside, cutoff)
        return Bounds(apart + MARGIN, inside - MARGIN, outside + MARGIN)

    def rewrapped(self, now: PeriodicSystems) -> StoredSearch | None:
        """Follow atoms that jumped by lattice vectors, as wrapping into the cell makes them.

        Returns:
            The same search as it would have been with those atoms in their other images; None if
            no atom jumped.
        """
        then = self.systems
        if not bool(then.pbc.any()):
            return None
        deformation = torch.linalg.solve(then.cell, now.cell)[now.batch]
        moved = now.pos - torch.bmm(then.pos.unsqueeze(1), deformation).squeeze(1)
        inverse = torch.linalg.inv(now.cell)[now.batch]
        jumps = torch.round(torch.bmm(moved.unsqueeze(1), inverse).squeeze(1))
        jumps = torch.where(now.pbc[now.batch], jumps, 0.0)
        if not bool(jumps.isfinite().all()) or not bool(jumps.any()):
            return None
        shift = torch.bmm(jumps.unsqueeze(1), then.cell[now.batch]).squeeze(1)
        steps = jumps.long()
        source, target, offsets, _ = self.candidates
        # All images of a pair shift alike, so the order of the pairs stays.
        offsets = offsets + steps.index_select(0, target) - steps.index_select(0, source)
        return replace(
            self,
            systems=then.moved_to(then.pos + shift),
            candidates=with_images(source, target, offsets),
            latest=None,
        )

    def edges(
        self, now: PeriodicSystems, bounds: Bounds, cutoff: float, max_neighbors: int | None
    ) -> Edges:
        """Return exactly the edges of ``now``; tensors are shared between calls.

        Only the pairs whose motion could have brought them across the cutoff are measured.
        """
        if max_neighbors is not None and self.most_neighbors > max_neighbors:
            return self._nearest(now, cutoff, max_neighbors)
        mask = self._mask(now, bounds, cutoff)
        if self.latest is None or not torch.equal(mask, self.latest[0]):
            kept = torch.nonzero(mask).flatten()
            self.latest = (mask, take_edges(now, self.candidates, kept))
        return self.latest[1]

    def _mask(self, now: PeriodicSystems, bounds: Bounds, cutoff: float) -> torch.Tensor:
        limits = self.distances.new_tensor(bounds)
        apart, inside, outside = torch.searchsorted(self.distances, limits).tolist()
        if apart == 0 and inside >= outside:
            return self.within
        inside = max(apart, inside)
        rows = self.by_distance[inside:outside]
        if apart:
            rows = torch.cat([self.by_distance[:apart], rows])
        square = squared_distances(now, _take(self.candidates, rows))
        return self.within.index_copy(0, rows, are_edges(square, cutoff))

    def _nearest(self, now: PeriodicSystems, cutoff: float, max_neighbors: int) -> Edges:
        square = squared_distances(now, self.candidates)
        kept = torch.nonzero(are_edges(square, cutoff)).flatten()
        target = self.candidates.target.index_select(0, kept)
        near = nearest_mask(square.index_select(0, kept), target, now.num_atoms, max_neighbors)
        return take_edges(now, self.candidates, kept if near is None else kept[near])


def _take(candidates: SortedCandidates, rows: torch.Tensor) -> SortedCandidates:
    images = candidates.images
    if images is not None:
        a, b, c = (image.index_select(0, rows) for image in images)
        images = (a, b, c)
    # Offsets are not needed to measure distances.
    return SortedCandidates(
        candidates.source.index_select(0, rows),
        candidates.target.index_select(0, rows),
        candidates.offsets,
        images,
    )
