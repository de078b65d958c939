"""Sums over angles against three nested loops over atoms and their images."""

from __future__ import annotations

import pytest
import torch
from scipy.special import eval_legendre

from adatom.graph.edges import Edges
from adatom.graph.neighbors import neighbor_list
from adatom.nn.angular_sums import angular_sums, arrivals, departures
from adatom.nn.edge_matching import EdgeEnds
from adatom.nn.harmonics import spherical_harmonics

CELL = torch.tensor([[[2.6, 0.0, 0.0], [0.4, 2.9, 0.0], [-0.6, 0.7, 3.1]]], dtype=torch.float64)
POSITIONS = torch.tensor([[0.1, 0.2, 0.3], [1.5, 1.4, 1.2]], dtype=torch.float64)
DEGREES, RADIAL, CHANNELS = 5, 3, 4


@pytest.mark.parametrize("complete", [True, False])
def test_equal_to_the_sum_over_triplets(complete):
    pbc = torch.ones(1, 3, dtype=torch.bool)
    edges = neighbor_list(POSITIONS, CELL, pbc, 3.2, natoms=torch.tensor([2]))
    if not complete:  # as after a limit on neighbors: some edges go in one direction only
        kept = torch.arange(edges.num_edges) % 3 != 1
        edges = Edges(edges.index[:, kept], edges.offsets[kept], kept.sum().reshape(1))
    vectors = edges.vectors(POSITIONS, CELL)
    directions = vectors / vectors.norm(dim=1, keepdim=True)
    generator = torch.Generator().manual_seed(0)
    draw = {"generator": generator, "dtype": torch.float64}
    features = torch.randn(edges.num_edges, CHANNELS, **draw)
    radial = torch.randn(DEGREES, edges.num_edges, RADIAL, **draw)
    weight = torch.randn(DEGREES, RADIAL, CHANNELS, **draw)

    ends = EdgeEnds(*edges.index, vectors)
    harmonics = spherical_harmonics(directions, DEGREES - 1)
    into = arrivals(ends.target, harmonics, radial, 2)
    found = angular_sums(features, weight, into, departures(ends, harmonics, into, ends))

    expected, excluded = torch.zeros_like(found), 0
    images = [tuple(image) for image in edges.offsets.tolist()]
    for ji, (j, i) in enumerate(edges.index.T.tolist()):
        for kj, (k, other) in enumerate(edges.index.T.tolist()):
            if other != j:
                continue
            back = tuple(a + b for a, b in zip(images[kj], images[ji], strict=True))
            if k == i and back == (0, 0, 0):
                excluded += 1
                continue
            cosine = float(-(directions[kj] @ directions[ji]))
            for degree in range(DEGREES):
                term = features[kj] * (radial[degree, kj] @ weight[degree])
                expected[ji] += eval_legendre(degree, cosine) * term
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    assert (excluded == edges.num_edges) == complete
