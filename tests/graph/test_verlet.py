"""A reused list gives exactly the edges of a fresh one."""

from __future__ import annotations

import pytest
import torch
from random_systems import Systems, assert_same, find, random_systems

from adatom.core.errors import GraphError
from adatom.graph import VerletList

CUTOFF = 3.0


def small_and_large(generator: torch.Generator) -> Systems:
    sizes, lengths = [6, 25, 9], [2.5, 7.0, 5.0]
    return random_systems(generator, sizes, lengths, [(1, 1, 1), (1, 1, 0), (0, 0, 0)])


def wrapped(systems: Systems) -> Systems:
    """Put the atoms into their cells along periodic directions."""
    owner = torch.repeat_interleave(torch.arange(len(systems.natoms)), systems.natoms)
    cell = systems.cell[owner]
    fractional = torch.linalg.solve(cell.transpose(1, 2), systems.pos.unsqueeze(2)).squeeze(2)
    steps = torch.where(systems.pbc[owner], torch.floor(fractional), 0.0)
    return systems._replace(pos=systems.pos - torch.bmm(steps.unsqueeze(1), cell).squeeze(1))


@pytest.mark.parametrize("backend", ["vesin", "torch"])
@pytest.mark.parametrize("limit", [None, 12])
@pytest.mark.parametrize("wrap", [False, True], ids=["free", "wrapped"])
def test_random_walk_with_cell_changes(backend: str, limit: int | None, wrap: bool) -> None:
    generator = torch.Generator().manual_seed(11)
    systems = small_and_large(generator)
    verlet = VerletList(CUTOFF, 0.6, max_neighbors=limit, backend=backend)
    options = {} if limit is None else {"max_neighbors": limit}
    drift = 0.002 * torch.randn(3, 3, 3, generator=generator, dtype=torch.float64)
    for step in range(300):
        kick = 0.015 * torch.randn(systems.pos.shape, generator=generator, dtype=torch.float64)
        systems = systems._replace(pos=systems.pos + kick)
        if step >= 150:  # as a barostat does: cell and atoms together, there and back
            strain = torch.eye(3, dtype=torch.float64) + (drift if step < 225 else -drift)
            per_atom = strain.repeat_interleave(systems.natoms, 0)
            systems = systems._replace(
                pos=torch.bmm(systems.pos.unsqueeze(1), per_atom).squeeze(1),
                cell=systems.cell @ strain,
            )
        systems = wrapped(systems) if wrap else systems
        assert_same(verlet.edges(*systems), find(systems, CUTOFF, backend, **options))
    assert 2 <= verlet.num_searches <= 100


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


def test_atoms_wrapped_into_the_cell_cause_no_search() -> None:
    generator = torch.Generator().manual_seed(5)
    systems = random_systems(generator, [20, 7], [6.0, 5.0], [(1, 1, 1), (1, 0, 1)], spread=1.0)
    verlet = VerletList(CUTOFF, 0.5)
    verlet.edges(*systems)
    pos = systems.pos.clone()
    pos[3] += systems.cell[0, 1] - 2.0 * systems.cell[0, 2]
    pos[4] += 0.1
    pos[22] -= systems.cell[1, 2]
    for _ in range(2):
        jumped = systems._replace(pos=pos)
        assert_same(verlet.edges(*jumped), find(jumped, CUTOFF, "ase"))
        pos = wrapped(jumped).pos
    assert verlet.num_searches == 1
    # Along a direction without images it is another place.
    jumped = systems._replace(pos=pos.clone())
    jumped.pos[22] += systems.cell[1, 1]
    assert_same(verlet.edges(*jumped), find(jumped, CUTOFF, "ase"))
    assert verlet.num_searches == 2


def test_atoms_that_meet_and_part() -> None:
    """Atoms within 1e-6 angstrom of each other have no edge, whenever that comes to be."""
    systems = random_systems(torch.Generator().manual_seed(5), [20], [6.0], [(1, 1, 1)])
    for first in (0.0, 0.1):
        verlet = VerletList(CUTOFF, 0.5)
        for distance in (first, 0.1 - first, first):
            pos = systems.pos.clone()
            pos[1] = pos[0] + torch.tensor([distance, 0.0, 0.0], dtype=torch.float64)
            close = systems._replace(pos=pos)
            assert_same(verlet.edges(*close), find(close, CUTOFF, "ase"))
        assert verlet.num_searches == 1


def test_the_same_edges_are_the_same_object() -> None:
    systems = random_systems(torch.Generator().manual_seed(5), [20], [6.0], [(1, 1, 1)])
    verlet = VerletList(CUTOFF, 0.5)
    first = verlet.edges(*systems)
    assert verlet.edges(systems.pos + 1e-5, *systems[1:]) is first


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_position_that_becomes_nan_is_an_error_and_the_list_survives(bad: float) -> None:
    systems = random_systems(torch.Generator().manual_seed(5), [20], [6.0], [(1, 1, 1)])
    verlet = VerletList(CUTOFF, 0.5)
    verlet.edges(*systems)
    broken = systems.pos.clone()
    broken[7, 1] = bad
    with pytest.raises(GraphError, match="position of atom 7"):
        verlet.edges(broken, *systems[1:])
    assert_same(verlet.edges(*systems), find(systems, CUTOFF, "ase"))
    assert verlet.num_searches == 1


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
