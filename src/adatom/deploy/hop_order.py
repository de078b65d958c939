"""Particles in the order of their steps along edges from the contributing ones.

The last layer of a network has to be right for contributing particles only, the one before for
those that they have edges from too, and so on. In this order each layer needs a number of first
particles and a number of first edges, so that nothing is computed that nobody asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from adatom.models.base import Neighborhood
from adatom.nn.first_rows import first_rows


@dataclass(frozen=True)
class HopOrder:
    """Particles and edges in order.

    Attributes:
        particles: ``[N]`` int64; which particle comes where.
        edges: ``[E]`` int64; which edge comes where: sorted by target.
        source: ``[E]`` int64; sources of the edges in order, numbered by their place.
        target: ``[E]`` int64.
        rows: How many particles are at most 0, 1 ... steps away, one more than layers.
        counts: How many edges end in particles that are at most 0, 1 ... steps away.
    """

    particles: torch.Tensor
    edges: torch.Tensor
    source: torch.Tensor
    target: torch.Tensor
    rows: tuple[int, ...]
    counts: tuple[int, ...]

    def neighborhoods(self, vectors: torch.Tensor) -> list[Neighborhood]:
        """Return what each layer of the network takes, the first layer (with most edges) first.

        Args:
            vectors: ``[E, 3]`` of the edges as they came, in angstrom.
        """
        found = []
        for rows, count in zip(self.rows, self.counts, strict=False):
            target = first_rows(self.target, count)
            found.append(
                Neighborhood(
                    first_rows(self.source, count),
                    target,
                    vectors.index_select(0, first_rows(self.edges, count)),
                    torch.ones_like(target).sum(0, keepdim=True),
                    rows=rows,
                )
            )
        return found[::-1]


def hop_order(
    source: torch.Tensor, target: torch.Tensor, contributing: torch.Tensor, layers: int
) -> HopOrder:
    """Order particles and edges; works while a program is traced.

    Args:
        source: ``[E]`` int64.
        target: ``[E]`` int64; all edges into particles less than ``layers`` steps away are there.
        contributing: ``[N]`` bool; those that are no steps away.
        layers: How many message layers there are.
    """
    steps = torch.where(contributing, 0, layers + 1)
    for _ in range(layers):
        steps = steps.scatter_reduce(0, source, steps.index_select(0, target) + 1, "amin")
    particles = torch.argsort(steps, stable=True)
    place = torch.zeros_like(particles).scatter(
        0, particles, torch.arange(particles.shape[0], device=particles.device)
    )
    edges = torch.argsort(place.index_select(0, target), stable=True)
    far = steps.index_select(0, target)
    return HopOrder(
        particles,
        edges,
        place.index_select(0, source.index_select(0, edges)),
        place.index_select(0, target.index_select(0, edges)),
        tuple(_count(steps <= k) for k in range(layers + 1)),
        tuple(_count(far <= k) for k in range(layers)),
    )


def _count(chosen: torch.Tensor) -> int:
    # Not int(...), which would ask for the value while a program is traced.
    count: int = chosen.sum().item()  # type: ignore[assignment]
    return count
