"""A system divided among workers: all edges once, in the order of the whole list, at all times."""

from __future__ import annotations

import pytest
import torch
from random_systems import Systems, random_systems

from adatom.core.errors import GraphError, UnknownNameError
from adatom.graph import neighbor_list
from adatom.graph.domain import Domain, Domains
from adatom.graph.links import LocalLinks
from adatom.graph.partition import spatial_partition
from adatom.graph.periodic_systems import PeriodicSystems
from adatom.graph.thread_links import run_workers

CUTOFF = 3.5
CASES = {
    "periodic": (70, 12.0, (1, 1, 1), 2.0),
    "small cell": (4, 3.0, (1, 1, 1), 1.0),
    "mixed": (60, 12.0, (1, 1, 0), 0.5),
    "molecule": (30, 8.0, (0, 0, 0), 0.5),
    "pair": (2, 30.0, (0, 0, 0), 0.5),
}


def system(name: str) -> Systems:
    size, length, pbc, spread = CASES[name]
    generator = torch.Generator().manual_seed(5)
    return random_systems(generator, [size], [length], [pbc], spread=spread)


def rows(domain: Domain) -> torch.Tensor:
    """Return source, target and offset of each edge, numbered in the system."""
    atoms = domain.atoms
    ends = torch.stack([atoms[domain.source], atoms[domain.target]])
    return torch.cat([ends, domain.edges.offsets.T]).T


def whole(s: Systems, **options: int) -> torch.Tensor:
    edges = neighbor_list(s.pos, s.cell, s.pbc, CUTOFF, **options)
    return torch.cat([edges.index, edges.offsets.T]).T


@pytest.mark.parametrize("partition", ["spatial", "index"])
@pytest.mark.parametrize("name", CASES)
def test_workers_together_have_the_whole_list(name, partition):
    s = system(name)
    for workers, options in ((1, {}), (2, {}), (3, {"max_neighbors": 6}), (5, {})):

        def divided(links, options=options):
            domains = Domains(links, CUTOFF, skin=0.4, partition=partition, **options)
            return domains.of(s.pos, s.cell, s.pbc)

        parts = run_workers(workers, divided)
        assert torch.equal(
            torch.cat([p.own for p in parts]).sort().values, torch.arange(len(s.pos))
        )
        for part in parts:
            assert bool((part.target[1:] >= part.target[:-1]).all())
            assert bool((part.target < len(part.own)).all())
        found = torch.cat([rows(part) for part in parts])
        found = found[torch.argsort(found[:, 1], stable=True)]
        assert torch.equal(found, whole(s, **options))


@pytest.mark.parametrize("name", ["periodic", "mixed", "small cell"])
def test_layers_without_exchange_see_all_that_matters(name):
    s = system(name)
    layers = 3

    def divided(links):
        return Domains(links, CUTOFF, layers=layers).of(s.pos, s.cell, s.pbc)

    edges = whole(s)
    for part in run_workers(3, divided):
        found = rows(part)
        targets = torch.zeros(len(s.pos), dtype=torch.bool)
        targets[part.own] = True
        for depth in range(layers):
            kept = part.into(depth)
            own = found if kept is None else found[kept]
            wanted = edges[targets[edges[:, 1]]]
            # Every edge into the atoms that the next layer looks at, and perhaps into more.
            keys = {tuple(row) for row in own.tolist()}
            assert {tuple(row) for row in wanted.tolist()} <= keys
            targets[wanted[:, 0]] = True
        assert bool((part.target[1:] >= part.target[:-1]).all())


def test_along_a_trajectory_edges_are_exact_and_searches_few():
    s = system("periodic")
    steps, workers = 25, 3
    generator = torch.Generator().manual_seed(1)
    jumps = [0.06 * torch.randn(s.pos.shape, generator=generator).double() for _ in range(steps)]
    cells = [s.cell * (1 + 0.001 * k) for k in range(steps)]

    def follow(links):
        domains, pos, seen = Domains(links, CUTOFF, skin=0.5), s.pos, []
        for jump, cell in zip(jumps, cells, strict=True):
            pos = pos + jump
            # Atoms are wrapped into the cell now and then, which must not matter.
            if len(seen) % 4 == 0:
                fractional = pos @ torch.linalg.inv(cell[0])
                pos = pos - torch.floor(fractional) @ cell[0]
            seen.append((pos, rows(domains.of(pos, cell, s.pbc))))
        return seen, domains.num_searches

    results = run_workers(workers, follow)
    for k in range(steps):
        pos = results[0][0][k][0]
        expected = neighbor_list(pos, cells[k], s.pbc, CUTOFF)
        found = torch.cat([seen[k][1] for seen, _ in results])
        found = found[torch.argsort(found[:, 1], stable=True)]
        assert torch.equal(found, torch.cat([expected.index, expected.offsets.T]).T)
    assert len({searches for _, searches in results}) == 1
    assert 1 < results[0][1] < steps


def test_atoms_go_to_workers_by_place_and_work():
    generator = torch.Generator().manual_seed(2)
    dense = torch.rand(300, 3, generator=generator).double() * 10
    sparse = torch.rand(100, 3, generator=generator).double() * 10
    sparse[:, 0] += 30
    pos = torch.cat([dense, sparse])[torch.randperm(400, generator=generator)]
    flat = torch.zeros(1, 3, dtype=torch.bool)
    systems = PeriodicSystems.checked(pos, torch.zeros(1, 3, 3), flat)
    edges = neighbor_list(pos, torch.zeros(1, 3, 3), flat, CUTOFF)
    degrees = torch.bincount(edges.index[1], minlength=400)
    for workers in (2, 3, 8):
        owner = spatial_partition(systems, CUTOFF, workers)
        work = torch.bincount(owner, degrees.double(), minlength=workers)
        assert float(work.max() / work.mean()) < 1.35
    two = spatial_partition(systems, CUTOFF, 2)
    # One plane divides them.
    assert float(pos[two == 0, 0].max()) < float(pos[two == 1, 0].min())


def test_atoms_stay_with_their_worker_until_they_have_moved_away():
    s = system("periodic")
    generator = torch.Generator().manual_seed(1)
    near = s.pos + 0.3 * torch.randn(s.pos.shape, generator=generator).double()
    # The same place in other images, and another system of as many atoms.
    series = [s.pos, near, near + s.cell[0, 1], s.pos.flip(0)]

    def follow(links):
        domains = Domains(links, CUTOFF)
        return [domains.of(pos, s.cell, s.pbc) for pos in series]

    for first, second, third, fourth in run_workers(2, follow):
        assert torch.equal(first.own, second.own)
        assert torch.equal(first.own, third.own)
        assert not torch.equal(first.own, fourth.own)


def test_what_a_worker_holds_falls_with_their_number():
    generator = torch.Generator().manual_seed(4)
    pos = torch.rand(4000, 3, generator=generator).double() * torch.tensor([160.0, 16.0, 16.0])
    cell = torch.diag(torch.tensor([160.0, 16.0, 16.0]))[None].double()
    pbc = torch.ones(1, 3, dtype=torch.bool)
    most = {}
    for workers in (1, 2, 4):

        def held(links):
            domain = Domains(links, CUTOFF).of(pos, cell, pbc)
            return domain.edges.num_edges, domain.halo.num_rows

        most[workers] = [max(column) for column in zip(*run_workers(workers, held), strict=True)]
    for workers in (2, 4):
        assert most[workers][0] < 1.15 * most[1][0] / workers
        # A slab of 3.5 angstrom at each of two faces.
        assert most[workers][1] < 1.2 * (4000 / workers + 4000 * 7 / 160)


def test_arguments_are_checked():
    with pytest.raises(GraphError, match="skin is -1"):
        Domains(LocalLinks(), CUTOFF, skin=-1.0)
    with pytest.raises(UnknownNameError, match="did you mean 'spatial'"):
        Domains(LocalLinks(), CUTOFF, partition="spatia")
    with pytest.raises(GraphError, match="position of atom 0"):
        run_workers(
            2,
            lambda links: Domains(links, CUTOFF).of(
                torch.full((2, 3), torch.nan), torch.zeros(1, 3, 3), torch.zeros(1, 3).bool()
            ),
        )
