"""The limit on neighbors: the k + 1 nearest and what is degenerate with the last of them."""

from __future__ import annotations

import torch
from random_systems import assert_same, find, random_systems

from adatom.graph import neighbor_list

OPEN = (torch.zeros(3, 3), torch.zeros(3, dtype=torch.bool))


def test_rule_by_hand() -> None:
    # Squared distances from atom 0: 1, 4, 9, 9.0081, 9.07.
    x = torch.tensor([0.0, 1.0, -2.0, 3.0, -(9.0081**0.5), 9.07**0.5], dtype=torch.float64)
    pos = torch.stack([x, torch.zeros(6), torch.zeros(6)], dim=1)

    def sources(limit: int | None) -> list[int]:
        edges = neighbor_list(pos, *OPEN, 3.2, max_neighbors=limit)
        return edges.index[0, edges.index[1] == 0].tolist()

    assert sources(None) == sources(5) == [1, 2, 3, 4, 5]
    assert sources(4) == [1, 2, 3, 4, 5]
    assert sources(3) == [1, 2, 3, 4]
    assert sources(2) == [1, 2, 3, 4]
    assert sources(1) == [1, 2]


def test_against_the_rule_atom_by_atom() -> None:
    generator = torch.Generator().manual_seed(3)
    systems = random_systems(generator, [30, 4], [7.0, 3.0], [(1, 1, 1), (1, 1, 0)])
    every = find(systems, 4.0, "ase")
    square = every.vectors(systems.pos, systems.cell).square().sum(1)
    kept = torch.ones(every.num_edges, dtype=torch.bool)
    for atom in range(34):
        mine = every.index[1] == atom
        if int(mine.sum()) > 9:
            kept[mine] = square[mine] <= square[mine].sort().values[9] + 0.01
    assert 0 < int(kept.sum()) < every.num_edges
    for backend in ("vesin", "torch"):
        limited = find(systems, 4.0, backend, max_neighbors=9)
        assert torch.equal(limited.index, every.index[:, kept])
        assert torch.equal(limited.offsets, every.offsets[kept])
        assert int(limited.counts.sum()) == limited.num_edges


def test_out_of_reach_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    systems = random_systems(generator, [30], [7.0], [(1, 1, 1)])
    assert_same(find(systems, 4.0, "auto", max_neighbors=300), find(systems, 4.0, "auto"))
