"""Tables of neighborhoods against loops over atoms."""

from __future__ import annotations

import pytest
import torch

from adatom.nn.neighbor_clouds import neighbor_clouds


@pytest.mark.parametrize("counts", [[3, 0, 5, 4, 0, 31, 1], [2, 2, 2], [0, 0], [7]])
def test_every_edge_and_every_atom_is_a_point_of_its_cloud_once(counts):
    target = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    edges, atoms_seen = len(target), []
    for atoms, points in neighbor_clouds(target, len(counts)):
        assert atoms.tolist() == sorted(atoms.tolist())
        for atom, row in zip(atoms.tolist(), points.tolist(), strict=True):
            atoms_seen.append(atom)
            inside = [point for point in row if point != edges + len(counts)]
            expected = (target == atom).nonzero().flatten().tolist()
            assert inside == [*expected, edges + atom]
    assert sorted(atoms_seen) == list(range(len(counts)))


def test_tables_are_hardly_larger_than_what_they_hold():
    counts = torch.randint(0, 60, (500,), generator=torch.Generator().manual_seed(0))
    target = torch.repeat_interleave(torch.arange(500), counts)
    tables = [points for _, points in neighbor_clouds(target, 500)]
    pairs = sum(points.shape[0] * points.shape[1] ** 2 for points in tables)
    assert pairs < 1.35 * int((counts + 1).square().sum())
    assert len(tables) < 16


def test_nothing_in_no_clouds():
    assert list(neighbor_clouds(torch.zeros(0, dtype=torch.int64), 0)) == []
