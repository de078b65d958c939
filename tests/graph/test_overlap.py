"""Atoms on top of each other, or of their own images, are refused by every search."""

from __future__ import annotations

import pytest
import torch
from random_systems import random_systems

from adatom.core.errors import GraphError
from adatom.graph import VerletList, neighbor_list

CELL = 5.0 * torch.eye(3, dtype=torch.float64)
PERIODIC = torch.ones(3, dtype=torch.bool)


@pytest.mark.parametrize("backend", ["vesin", "torch", "ase"])
@pytest.mark.parametrize("distance", [0.0, 1e-9, 0.05])
def test_close_atoms_are_named(backend: str, distance: float) -> None:
    # Through the boundary of the cell, and as the second of two systems.
    pos = torch.tensor([[1.0, 1, 1], [4, 4, 4], [4, 2, 2], [2, 2, 0], [2, 2, 5 - distance]])
    counts, cells, pbc = torch.tensor([2, 3]), CELL.repeat(2, 1, 1), PERIODIC.repeat(2, 1)
    expected = r"Atoms 1 and 2 of system 1 are .* from each other.*at least 0\.1 angstrom"
    with pytest.raises(GraphError, match=expected):
        neighbor_list(
            pos.double(), cells, pbc, 3.0, natoms=counts, backend=backend, min_distance=0.1
        )
    with pytest.raises(GraphError, match=expected):
        VerletList(3.0, backend=backend, min_distance=0.1).edges(pos.double(), cells, pbc, counts)
    neighbor_list(pos.double(), cells, pbc, 3.0, natoms=counts, backend=backend)


@pytest.mark.parametrize("backend", ["vesin", "torch", "ase"])
def test_an_atom_on_its_own_image(backend: str) -> None:
    cell, pos = CELL.clone(), torch.zeros(1, 3, dtype=torch.float64)
    cell[1, 1] = 0.05
    with pytest.raises(GraphError, match=r"Atom 0 and its periodic image are 0\.05 angstrom"):
        neighbor_list(pos, cell, PERIODIC, 1.0, backend=backend, min_distance=0.1)
    cell[1, 1] = 0.2
    neighbor_list(pos, cell, PERIODIC, 1.0, backend=backend, min_distance=0.1)


def test_the_shortest_edge_decides() -> None:
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        systems = random_systems(generator, [6, 9], [4.0, 5.0], [(1, 0, 1), (1, 1, 1)], spread=1.0)
        pos, cell, pbc, natoms = systems.pos, systems.cell, systems.pbc, systems.natoms
        edges = neighbor_list(pos, cell, pbc, 3.0, natoms=natoms)
        source, target = edges.index
        batch = torch.repeat_interleave(natoms)
        shift = torch.einsum("ei,eij->ej", edges.offsets.double(), cell[batch[target]])
        shortest = float((pos[source] - pos[target] + shift).norm(dim=1).min())
        neighbor_list(pos, cell, pbc, 3.0, natoms=natoms, min_distance=shortest - 1e-9)
        with pytest.raises(GraphError, match="from each other"):
            neighbor_list(pos, cell, pbc, 3.0, natoms=natoms, min_distance=shortest + 1e-9)
