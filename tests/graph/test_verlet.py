"""A reused list gives exactly the edges of a fresh one."""

from __future__ import annotations

import pytest
import torch
from random_systems import Systems, assert_same, find, random_systems

from adatom.graph import VerletList

CUTOFF = 3.0


def small_and_large(generator: torch.Generator) -> Systems:
    sizes, lengths = [6, 25, 9], [2.5, 7.0, 5.0]
    return random_systems(generator, sizes, lengths, [(1, 1, 1), (1, 1, 0), (0, 0, 0)])


@pytest.mark.parametrize("backend", ["vesin", "torch"])
@pytest.mark.parametrize("limit", [None, 12])
def test_random_walk_with_cell_changes(backend: str, limit: int | None) -> None:
    generator = torch.Generator().manual_seed(11)
    systems = small_and_large(generator)
    verlet = VerletList(CUTOFF, 0.6, max_neighbors=limit, backend=backend)
    options = {} if limit is None else {"max_neighbors": limit}
    drift = 0.002 * torch.randn(3, 3, 3, generator=generator, dtype=torch.float64)
    for step in range(80):
        kick = 0.015 * torch.randn(systems.pos.shape, generator=generator, dtype=torch.float64)
        systems = systems._replace(pos=systems.pos + kick)
        if step >= 40:  # as a barostat does: cell and atoms together
            strain = torch.eye(3, dtype=torch.float64) + drift
            per_atom = strain.repeat_interleave(systems.natoms, 0)
            systems = systems._replace(
                pos=torch.bmm(systems.pos.unsqueeze(1), per_atom).squeeze(1),
                cell=systems.cell @ strain,
            )
        assert_same(verlet.edges(*systems), find(systems, CUTOFF, backend, **options))
    assert 2 <= verlet.num_searches <= 40


def test_searches_only_when_needed() -> None:
    systems = small_and_large(torch.Generator().manual_seed(5))
    verlet = VerletList(CUTOFF, 0.5)
    verlet.edges(*systems)
    verlet.edges(*systems)
    step = torch.tensor([0.24, 0.0, 0.0], dtype=torch.float64)
    verlet.edges(systems.pos + step, *systems[1:])
    assert verlet.num_searches == 1
    verlet.edges(systems.pos + 1.1 * step, *systems[1:])
    assert verlet.num_searches == 2


def test_volume_change_alone_keeps_the_list() -> None:
    systems = random_systems(torch.Generator().manual_seed(5), [20], [6.0], [(1, 1, 1)])
    verlet = VerletList(CUTOFF, 0.5)
    for scale, searches in ((1.0, 1), (0.87, 1), (1.3, 1), (0.85, 2)):
        scaled = systems._replace(pos=systems.pos * scale, cell=systems.cell * scale)
        assert_same(verlet.edges(*scaled), find(scaled, CUTOFF, "ase"))
        assert verlet.num_searches == searches


def test_anything_else_that_changes_causes_a_search() -> None:
    generator = torch.Generator().manual_seed(2)
    first = random_systems(generator, [8], [4.0], [(1, 1, 1)])
    more_atoms = random_systems(generator, [9], [4.0], [(1, 1, 1)])
    other_pbc = more_atoms._replace(pbc=~more_atoms.pbc)
    split = random_systems(generator, [4, 5], [4.0, 4.0], [(1, 1, 1), (1, 1, 1)])
    verlet = VerletList(CUTOFF, 0.5)
    for number, systems in enumerate((first, more_atoms, other_pbc, split, first), start=1):
        assert_same(verlet.edges(*systems), find(systems, CUTOFF, "ase"))
        assert verlet.num_searches == number


def test_atom_wrapped_into_the_cell() -> None:
    systems = random_systems(torch.Generator().manual_seed(5), [20], [6.0], [(1, 1, 1)])
    verlet = VerletList(CUTOFF, 0.5)
    verlet.edges(*systems)
    pos = systems.pos.clone()
    pos[3] += systems.cell[0, 1]
    wrapped = systems._replace(pos=pos)
    assert_same(verlet.edges(*wrapped), find(wrapped, CUTOFF, "ase"))
    assert verlet.num_searches == 2


def test_input_changed_in_place() -> None:
    systems = random_systems(torch.Generator().manual_seed(5), [20], [6.0], [(1, 1, 1)])
    verlet = VerletList(CUTOFF, 0.5)
    verlet.edges(*systems)
    systems.pos.add_(torch.randn(20, 3, generator=torch.Generator().manual_seed(1)))
    assert_same(verlet.edges(*systems), find(systems, CUTOFF, "ase"))
    systems.cell.mul_(0.8)
    assert_same(verlet.edges(*systems), find(systems, CUTOFF, "ase"))
    systems.pbc[0, 1] = False
    assert_same(verlet.edges(*systems), find(systems, CUTOFF, "ase"))
    assert verlet.num_searches == 4


def test_dtype_may_change() -> None:
    systems = random_systems(torch.Generator().manual_seed(5), [20], [6.0], [(1, 1, 1)])
    verlet = VerletList(CUTOFF, 0.5)
    for dtype in (torch.float64, torch.float32):
        cast = systems._replace(pos=systems.pos.to(dtype), cell=systems.cell.to(dtype))
        assert_same(verlet.edges(*cast), find(cast, CUTOFF, "ase"))


def test_without_skin_and_without_atoms() -> None:
    systems = random_systems(torch.Generator().manual_seed(5), [20], [6.0], [(1, 1, 1)])
    verlet = VerletList(CUTOFF, 0.0)
    for _ in range(2):
        assert_same(verlet.edges(*systems), find(systems, CUTOFF, "ase"))
    assert verlet.num_searches == 1
    empty = systems._replace(pos=systems.pos[:0], natoms=torch.tensor([0]))
    for _ in range(2):
        assert verlet.edges(*empty).num_edges == 0
    assert verlet.num_searches == 2
