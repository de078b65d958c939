"""Particles in the order of their steps along edges from the contributing ones.

The last layer of a network has to be right for contributing particles only, the one before for
those that they have edges from too, and so on. In this order each layer needs a number of first
particles and a number of first edges, so that nothing is computed that nobody asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from adatom.models.base import Neighborhood


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
        # Others are not needed by any layer.
        last = self.counts[-1]
        ordered = vectors.index_select(0, self.edges[:last])
        return [
            Neighborhood(
                self.source[:count],
                self.target[:count],
                ordered[:count],
                torch.ones_like(self.target[:count]).sum(0, keepdim=True),
                rows=rows,
            )
            for rows, count in reversed(list(zip(self.rows, self.counts, strict=False)))
        ]


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
        tuple(_count(steps <= k, particles.shape[0]) for k in range(layers + 1)),
        tuple(_count(far <= k, edges.shape[0]) for k in range(layers)),
    )


def _count(chosen: torch.Tensor, size: int) -> int:
    count: int = chosen.sum().item()  # type: ignore[assignment]
    # For traces, in which neither number has a value.
    torch._check(count >= 0)  # noqa: SLF001
    torch._check(count <= size)  # noqa: SLF001
    return count
