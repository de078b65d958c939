"""Random systems for the neighbor-list tests, and the definition of an edge written out."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch

from adatom.graph import Edges, neighbor_list


class Systems(NamedTuple):
    """Arguments of ``neighbor_list`` without the cutoff."""

    pos: torch.Tensor
    cell: torch.Tensor
    pbc: torch.Tensor
    natoms: torch.Tensor


def random_systems(
    generator: torch.Generator,
    sizes: list[int],
    lengths: list[float],
    pbc: list[tuple[int, int, int]],
    *,
    skew: float = 0.4,
    spread: float = 2.0,
) -> Systems:
    """Make skewed cells with atoms up to ``spread`` cells away from the origin."""
    cells, positions = [], []
    for size, length in zip(sizes, lengths, strict=True):
        noise = torch.rand(3, 3, generator=generator, dtype=torch.float64) - 0.5
        cell = length * (torch.eye(3, dtype=torch.float64) + 2 * skew * noise)
        place = torch.rand(size, 3, generator=generator, dtype=torch.float64) - 0.5
        cells.append(cell)
        positions.append(2 * spread * place @ cell)
    return Systems(
        torch.cat(positions),
        torch.stack(cells),
        torch.tensor(pbc, dtype=torch.bool),
        torch.tensor(sizes),
    )


def find(systems: Systems, cutoff: float, backend: str, **options: int) -> Edges:
    """Search all systems of the batch."""
    return neighbor_list(
        systems.pos,
        systems.cell,
        systems.pbc,
        cutoff,
        natoms=systems.natoms,
        backend=backend,
        **options,
    )


def assert_same(found: Edges, expected: Edges) -> None:
    """Compare edge lists, order included."""
    assert torch.equal(found.counts, expected.counts)
    assert torch.equal(found.index, expected.index)
    assert torch.equal(found.offsets, expected.offsets)


def rows(edges: Edges) -> list[tuple[int, ...]]:
    """List the edges as (target, source, offset)."""
    table = torch.cat([edges.index.flip(0).T, edges.offsets], dim=1)
    return [tuple(row) for row in table.tolist()]


def by_definition(systems: Systems, cutoff: float) -> list[tuple[int, ...]]:
    """Find the edges of a batch by trying all pairs and all images that could matter."""
    found = []
    start = 0
    for b, size in enumerate(systems.natoms.tolist()):
        pos, cell, pbc = systems.pos[start : start + size], systems.cell[b], systems.pbc[b]
        ranges = [range(1)] * 3
        if size and bool(pbc.any()):
            # |n_k| <= (cutoff + largest distance) / height_k, by the dual basis.
            filled = torch.where(pbc[:, None], cell, 0.0)
            dual = torch.linalg.vector_norm(torch.linalg.pinv(filled), dim=0)
            most = torch.ceil(dual * (cutoff + torch.cdist(pos, pos).max())).long() * pbc
            ranges = [range(-m, m + 1) for m in most.tolist()]
        for n in itertools.product(*ranges):
            shift = torch.tensor(n, dtype=cell.dtype) @ cell
            distance = torch.linalg.vector_norm(pos[None] - pos[:, None] + shift, dim=-1)
            for i, j in torch.nonzero((distance <= cutoff) & (distance > 1e-6)).tolist():
                found.append((i + start, j + start, *n))
        start += size
    return sorted(found)
