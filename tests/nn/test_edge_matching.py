"""Finding the reverse of edges and the same edges, through periodic images."""

from __future__ import annotations

import pytest
import torch

from adatom.graph.edges import Edges
from adatom.graph.neighbors import neighbor_list
from adatom.nn.edge_matching import EdgeEnds, find_edges

CELL = torch.tensor([[[2.1, 0.0, 0.0], [0.4, 2.4, 0.0], [-0.6, 0.7, 2.7]]], dtype=torch.float64)
POSITIONS = torch.tensor([[0.1, 0.2, 0.3], [1.2, 1.1, 0.9]], dtype=torch.float64)


@pytest.fixture(name="edges")
def small_cell() -> Edges:
    pbc = torch.ones(1, 3, dtype=torch.bool)
    return neighbor_list(POSITIONS, CELL, pbc, 4.0, natoms=torch.tensor([2]))


def ends_of(edges: Edges, dtype: torch.dtype = torch.float64) -> EdgeEnds:
    return EdgeEnds(*edges.index, edges.vectors(POSITIONS, CELL).to(dtype))


def names_of(edges: Edges) -> list[tuple[int, ...]]:
    """Return source, target and image of each edge."""
    return [tuple(row) for row in torch.cat([edges.index, edges.offsets.T]).T.tolist()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_reverse_goes_back_through_the_same_image(edges, dtype):
    ends = ends_of(edges, dtype)
    noise = 1e-5 * torch.randn(ends.vectors.shape, generator=torch.Generator().manual_seed(0))
    reverse = find_edges(ends._replace(vectors=ends.vectors + noise).reversed(), ends, 2)
    names = names_of(edges)
    assert len(names) > 60  # many images of the same two atoms
    for (source, target, a, b, c), found in zip(names, reverse.tolist(), strict=True):
        assert names[found] == (target, source, -a, -b, -c)


def test_what_is_not_listed_is_not_found(edges):
    ends = ends_of(edges)
    kept = torch.arange(edges.num_edges) % 3 != 0
    part = EdgeEnds(*(column[kept] for column in ends))
    found = find_edges(ends, part, 2)
    assert torch.equal(found >= 0, kept)
    assert torch.equal(found[kept], torch.arange(int(kept.sum())))


def test_empty_lists(edges):
    ends = ends_of(edges)
    none = EdgeEnds(*(column[:0] for column in ends))
    assert find_edges(none, ends, 2).shape == (0,)
    assert find_edges(ends, none, 2).tolist() == [-1] * edges.num_edges
