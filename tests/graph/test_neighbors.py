"""Every backend finds the edges of the definition, in the same order."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
import torch
from random_systems import Systems, assert_same, by_definition, find, random_systems, rows

from adatom.graph import neighbor_list

BACKENDS = ["vesin", "torch", "ase"]
FAST = ["vesin", "torch"]
CUTOFF = 3.0
F64 = torch.float64
ALL_PBC = list(itertools.product((0, 1), repeat=3))


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("length", [1.3, 4.0, 9.0])
@pytest.mark.parametrize("pbc", ALL_PBC)
def test_definition(
    generator: torch.Generator, pbc: tuple[int, int, int], length: float, backend: str
) -> None:
    systems = random_systems(generator, [7], [length], [pbc], spread=1.0)
    assert rows(find(systems, CUTOFF, backend)) == by_definition(systems, CUTOFF)


@pytest.mark.parametrize("backend", FAST)
def test_ase_is_the_oracle(generator: torch.Generator, backend: str) -> None:
    for trial in range(60):
        length = float(torch.empty(1).uniform_(1.5, 12.0, generator=generator))
        size = int(torch.randint(1, 40, (1,), generator=generator))
        systems = random_systems(
            generator, [size], [length], [ALL_PBC[trial % 8]], skew=0.8, spread=4.0
        )
        if float(torch.linalg.det(systems.cell[0]).abs()) < 0.05 * length**3:
            continue
        assert_same(find(systems, CUTOFF, backend), find(systems, CUTOFF, "ase"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_is_the_singles(generator: torch.Generator, backend: str) -> None:
    sizes, lengths = [5, 1, 0, 30, 12, 2], [4.0, 2.0, 3.0, 14.0, 5.0, 50.0]
    pbc = [(1, 1, 1), (1, 1, 1), (1, 0, 1), (0, 0, 0), (1, 1, 0), (0, 0, 1)]
    batch = random_systems(generator, sizes, lengths, pbc)
    together = find(batch, CUTOFF, backend)
    expected = []
    start = 0
    for b, size in enumerate(sizes):
        edges = neighbor_list(
            batch.pos[start : start + size], batch.cell[b], batch.pbc[b], CUTOFF, backend=backend
        )
        assert edges.num_edges == int(together.counts[b])
        expected += [(i + start, j + start, *n) for i, j, *n in rows(edges)]
        start += size
    assert rows(together) == expected
    assert_same(together, find(batch, CUTOFF, "vesin"))


@pytest.mark.parametrize("backend", FAST)
def test_vectors_and_symmetry(generator: torch.Generator, backend: str) -> None:
    systems = random_systems(generator, [20, 9], [6.0, 2.0], [(1, 1, 0), (1, 1, 1)])
    edges = find(systems, CUTOFF, backend)
    lengths = torch.linalg.vector_norm(edges.vectors(systems.pos, systems.cell), dim=1)
    assert float(lengths.max()) <= CUTOFF + 1e-12
    table = rows(edges)
    assert table == sorted(table)
    assert {(j, i, -a, -b, -c) for i, j, a, b, c in table} == set(table)


@pytest.mark.parametrize("backend", FAST)
def test_permutation(generator: torch.Generator, backend: str) -> None:
    systems = random_systems(generator, [25], [6.0], [(1, 0, 1)])
    order = torch.randperm(25, generator=generator)
    shuffled = find(systems._replace(pos=systems.pos[order]), CUTOFF, backend)
    renamed = [(int(order[i]), int(order[j]), *n) for i, j, *n in rows(shuffled)]
    assert sorted(renamed) == rows(find(systems, CUTOFF, backend))


@pytest.mark.parametrize("backend", FAST)
def test_translation_by_lattice_vectors(generator: torch.Generator, backend: str) -> None:
    systems = random_systems(generator, [25], [5.0], [(1, 1, 1)])
    jumps = torch.randint(-9, 10, (25, 3), generator=generator)
    moved = find(
        systems._replace(pos=systems.pos + jumps.to(F64) @ systems.cell[0]), CUTOFF, backend
    )
    edges = find(systems, CUTOFF, backend)
    source, target = moved.index
    offsets = (moved.offsets + jumps[source] - jumps[target]).tolist()
    pairs = zip(target.tolist(), source.tolist(), offsets, strict=True)
    assert sorted((i, j, *n) for i, j, n in pairs) == rows(edges)


@pytest.mark.parametrize("backend", BACKENDS)
def test_primitive_cell_sees_its_own_images(backend: str) -> None:
    # fcc, lattice constant 3.6: 12 + 6 + 24 + 12 + 24 + 8 + 48 within 6.85 (shells 1 to 7)
    cell = 1.8 * torch.tensor([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=F64)
    pos = torch.zeros(1, 3, dtype=F64)
    edges = neighbor_list(pos, cell, torch.ones(3, dtype=torch.bool), 6.85, backend=backend)
    assert edges.num_edges == 12 + 6 + 24 + 12 + 24 + 8 + 48


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_cutoff_itself_is_inside(backend: str) -> None:
    pos = torch.tensor([[0.0, 0, 0], [0, 0, 3], [0, 0, 6.0 + 1e-9]], dtype=F64)
    edges = neighbor_list(
        pos, torch.zeros(3, 3), torch.zeros(3, dtype=torch.bool), 3.0, backend=backend
    )
    assert rows(edges) == [(0, 1, 0, 0, 0), (1, 0, 0, 0, 0)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_atoms_on_one_point_have_no_edge(backend: str) -> None:
    cell = torch.tensor([[4.1, 0.3, 0], [0, 4.7, 0.2], [0.9, 0, 5.3]], dtype=F64)
    # The second atom is the first one's image up to rounding.
    pos = torch.tensor([[0.1, 0.2, 0.3], [1.1, 1.2, 1.3]], dtype=F64)
    pos = torch.cat([pos, pos[:1] + 7 * cell[0] - 3 * cell[2]])
    edges = neighbor_list(pos, cell, torch.ones(3, dtype=torch.bool), 2.0, backend=backend)
    assert rows(edges) == [(0, 1, 0, 0, 0), (1, 0, 0, 0, 0), (1, 2, -7, 0, 3), (2, 1, 7, 0, -3)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pbc", [(0, 0, 0), (1, 1, 1)])
def test_nothing_to_find(backend: str, pbc: tuple[int, int, int]) -> None:
    cell, flags = 20 * torch.eye(3, dtype=F64), torch.tensor(pbc, dtype=torch.bool)
    for pos in (torch.zeros(0, 3), torch.zeros(1, 3), torch.tensor([[0.0, 0, 0], [9, 9, 9]])):
        edges = neighbor_list(pos, cell, flags, 3.0, backend=backend)
        assert list(edges.index.shape) == [2, 0]
        assert list(edges.offsets.shape) == [0, 3]
        assert edges.counts.tolist() == [0]
        assert edges.index.dtype == edges.offsets.dtype == edges.counts.dtype == torch.int64


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("pbc", [(0, 0, 0), (1, 1, 1), (1, 0, 0)])
def test_huge_vacuum_costs_nothing(backend: str, pbc: tuple[int, int, int]) -> None:
    pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.1], [5e6, 5e6, 5e6], [5e6, 5e6, 5e6 + 1]], dtype=F64)
    cell, flags = 1e7 * torch.eye(3, dtype=F64), torch.tensor(pbc, dtype=torch.bool)
    begin = time.perf_counter()
    edges = neighbor_list(pos, cell, flags, 6.0, backend=backend)
    assert time.perf_counter() - begin < 1.0
    assert [row[:2] for row in rows(edges)] == [(0, 1), (1, 0), (2, 3), (3, 2)]


@pytest.mark.parametrize("backend", FAST)
def test_atoms_many_cells_away(backend: str) -> None:
    pos = torch.tensor([[0.0, 0, 0], [3e6 + 1, 0, 0], [0, -6e6 + 1.5, 9e6]], dtype=F64)
    cell, flags = 3 * torch.eye(3, dtype=F64), torch.ones(3, dtype=torch.bool)
    edges = neighbor_list(pos, cell, flags, 1.2, backend=backend)
    assert rows(edges) == [(0, 1, -1_000_000, 0, 0), (1, 0, 1_000_000, 0, 0)]


@pytest.mark.parametrize("backend", FAST)
def test_rows_without_periodicity_are_ignored(generator: torch.Generator, backend: str) -> None:
    systems = random_systems(generator, [20], [5.0], [(1, 0, 1)])
    edges = find(systems, CUTOFF, backend)
    for row in (torch.zeros(3), systems.cell[0, 0], torch.tensor([torch.nan] * 3)):
        cell = systems.cell.clone()
        cell[0, 1] = row
        assert_same(find(systems._replace(cell=cell), CUTOFF, backend), edges)


@pytest.mark.parametrize("backend", FAST)
def test_float32_input_and_input_not_changed(generator: torch.Generator, backend: str) -> None:
    systems = random_systems(generator, [20], [5.0], [(1, 1, 0)])
    single = Systems(systems.pos.float(), systems.cell.float(), systems.pbc, systems.natoms)
    before = [x.clone() for x in single]
    edges = find(single, CUTOFF, backend)
    assert all(torch.equal(x, y) for x, y in zip(single, before, strict=True))
    double = Systems(single.pos.double(), single.cell.double(), *single[2:])
    assert_same(edges, find(double, CUTOFF, backend))


def test_positions_with_gradient(generator: torch.Generator) -> None:
    systems = random_systems(generator, [8], [4.0], [(1, 1, 1)])
    edges = find(systems._replace(pos=systems.pos.requires_grad_()), CUTOFF, "auto")
    assert edges.vectors(systems.pos, systems.cell).requires_grad


@pytest.mark.parametrize("name", ["aspirin21", "h2o64", "cu108", "mols64"])
def test_real_structures(shared: Path, name: str) -> None:
    from ase.io import read

    frames = read(shared / "data" / "bench" / f"{name}.extxyz", index=":")
    systems = Systems(
        torch.cat([torch.from_numpy(a.positions) for a in frames]),
        torch.stack([torch.from_numpy(a.cell.array) for a in frames]),
        torch.stack([torch.from_numpy(a.pbc) for a in frames]),
        torch.tensor([len(a) for a in frames]),
    )
    expected = find(systems, 6.0, "ase")
    for backend in ("auto", "vesin", "torch"):
        assert_same(find(systems, 6.0, backend), expected)


def test_torch_backend_in_chunks(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    systems = random_systems(generator, [40, 30], [9.0, 3.0], [(1, 1, 1), (1, 0, 1)])
    whole = find(systems, CUTOFF, "torch")
    monkeypatch.setattr("adatom.graph.torch_backend._BIN_PAIRS_AT_ONCE", 100)
    assert_same(find(systems, CUTOFF, "torch"), whole)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_is_the_cpu(generator: torch.Generator) -> None:
    systems = random_systems(
        generator, [40, 0, 90], [9.0, 3.0, 5.0], [(1, 1, 1), (1, 0, 1)] * 1 + [(0, 0, 0)]
    )
    on_gpu = Systems(*(x.cuda() for x in systems))
    edges = find(on_gpu, CUTOFF, "auto")
    assert edges.index.is_cuda
    assert_same(edges.to("cpu"), find(systems, CUTOFF, "vesin"))
