"""A backbone and a head on one worker's part of a system.

With E the energy of the whole system and v_e the edge vectors of this worker, autograd of its own
atoms' energies gives dE/dv_e, because exchanges between layers carry the gradients of the other
workers along (see :mod:`adatom.graph.halo`). Each edge belongs to one worker, so forces and virial
are the sums over edges of :mod:`adatom.models.gradients`: what falls on atoms of others is sent to
them, and virials are summed over the workers.

Where a backbone does not exchange, a worker sees its own atoms' surroundings as far as they matter.
Then the energies of its atoms depend on copies of edges that others have too, each worker
differentiates its own atoms' energies alone, and the same sums hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.graph.domain import Domain
from adatom.models.base import Backbone, Neighborhood, NodeFeatures
from adatom.models.gradients import Gradients, atomic_virials_from, forces_from, virial_from


def unsharable(backbone: Backbone) -> str | None:
    """Say in one sentence why several workers cannot share a system, or None if they can."""
    if backbone.uses_positions:
        return (
            f"{type(backbone).__name__} takes positions and cell of a whole system, not edges, so "
            "several workers cannot share one."
        )
    return None


def search_layers(backbone: Backbone) -> int:
    """Return how many cutoffs away a worker needs atoms; see :class:`adatom.graph.domain.Domains`.

    Raises:
        ConfigError: If workers cannot share a system.
    """
    reason = unsharable(backbone)
    if reason is not None:
        raise ConfigError(reason, fix="Use one worker.")
    return 1 if backbone.exchanges else backbone.num_message_layers


@dataclass(frozen=True, eq=False)
class Share:
    """One worker's part of a system in the form that backbones take.

    Attributes:
        domain: Which atoms and edges.
        data: The atoms of the rows of features; ``natoms`` counts those of the whole system.
        edges: All edges.
        layers: One neighborhood per message layer, made of ``edges``.
    """

    domain: Domain
    data: AtomicData
    edges: Neighborhood
    layers: Sequence[Neighborhood]

    @property
    def num_own(self) -> int:
        """Number of atoms of this worker."""
        return self.domain.halo.num_own

    def own(self, features: NodeFeatures) -> tuple[NodeFeatures, AtomicData]:
        """Return features and data of own atoms only."""
        count = self.num_own
        if features.scalars.shape[0] == count:
            return features, self.data
        spherical = None if features.spherical is None else features.spherical[:count]
        return NodeFeatures(features.scalars[:count], spherical), _rows(
            self.data, torch.arange(count, device=self.data.pos.device)
        )

    def forces(self, gradients: Gradients) -> torch.Tensor:
        """Return minus the derivative of the whole energy by own positions, ``[n, 3]``."""
        rows = forces_from(gradients, [self.edges], self.domain.halo.num_rows)
        return self.domain.halo.collect(rows)

    def virial(self, gradients: Gradients) -> torch.Tensor:
        """Return ``[1, 3, 3]`` of the whole system, float64."""
        return self.domain.halo.total(virial_from(gradients, [self.edges], 1))

    def atomic_virials(self, gradients: Gradients) -> torch.Tensor:
        """Return ``[n, 3, 3]`` of own atoms, float64."""
        rows = atomic_virials_from(gradients, [self.edges], self.domain.halo.num_rows)
        return self.domain.halo.collect(rows)


def share_of(
    backbone: Backbone,
    data: AtomicData,
    domain: Domain,
    dtype: torch.dtype,
    *,
    derivatives: bool = True,
) -> Share:
    """Prepare a worker's part.

    Args:
        backbone: Will compute it.
        data: The whole system, without edges.
        domain: The worker's part of it.
        dtype: Of the edge vectors.
        derivatives: Whether the vectors shall require gradients.
    """
    vectors = domain.edges.vectors(data.pos.detach(), data.cell.detach()).to(dtype)
    vectors.requires_grad_(derivatives)
    halo = domain.halo if backbone.exchanges and domain.halo.links.size > 1 else None
    edges = Neighborhood(domain.source, domain.target, vectors, domain.edges.counts, halo)
    rows = domain.own if backbone.exchanges else domain.atoms
    count = backbone.num_message_layers
    layers = [edges] * count
    if not backbone.exchanges:
        layers = [_nearer(edges, domain, count - 1 - k) for k in range(count)]
    return Share(domain, _rows(data, rows), edges, layers)


def _nearer(edges: Neighborhood, domain: Domain, depth: int) -> Neighborhood:
    """Return the edges into atoms up to a depth."""
    kept = domain.into(depth)
    if kept is None:
        return edges
    return replace(
        edges,
        source=edges.source[kept],
        target=edges.target[kept],
        vectors=edges.vectors[kept],
        counts=torch.full_like(edges.counts, len(kept)),
    )


def _rows(data: AtomicData, atoms: torch.Tensor) -> AtomicData:
    """Return some atoms of a system; ``natoms`` stays."""
    return replace(
        data,
        pos=data.pos[atoms],
        atomic_numbers=data.atomic_numbers[atoms],
        batch=data.batch[atoms],
        tags=data.tags[atoms],
        fixed=data.fixed[atoms],
        edges=None,
        labels={},
    )
