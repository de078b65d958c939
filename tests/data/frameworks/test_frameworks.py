"""Batches as graphs of other libraries, and back."""

from __future__ import annotations

import sys
from dataclasses import fields

import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from adatom.core.errors import DataError, GraphError, MissingExtraError
from adatom.data.atomic_data import AtomicData, collate
from adatom.data.frameworks.dgl import from_dgl, to_dgl
from adatom.data.frameworks.import_dgl import import_dgl
from adatom.data.frameworks.plain_graph import to_plain
from adatom.data.frameworks.pyg import from_pyg, import_pyg, to_pyg

NAMES = [item.name for item in fields(AtomicData) if item.name not in ("edges", "labels")]


@pytest.fixture(scope="module")
def pyg():
    return pytest.importorskip("torch_geometric.data", reason="needs adatom[pyg]")


@pytest.fixture(scope="module")
def dgl():
    try:
        return import_dgl(without_graphbolt=True)
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.fixture
def batch() -> AtomicData:
    """Return a molecule, a crystal and a slab with everything that a batch can hold."""
    slab = fcc111("Cu", (2, 1, 2), vacuum=6.0)
    slab.rattle(0.1, seed=1)
    slab.set_tags([0, 0, 1, 2])
    crystal = bulk("NaCl", "rocksalt", a=5.6)
    crystal.rattle(0.1, seed=2)
    systems = [AtomicData.from_ase(a) for a in (molecule("CH3OH"), crystal, slab)]
    for i, system in enumerate(systems):
        system.sid, system.dataset = [f"s{i}"], [f"level{i % 2}"]
        system.charge += i
        system.spin += 2 * i
        system.fixed[0] = True
        system.labels = {"energy": torch.tensor([1.5 * i], dtype=torch.float64)}
        if i != 1:
            system.labels["forces"] = torch.randn(system.num_atoms, 3, dtype=torch.float64)
            system.labels["stress"] = torch.randn(1, 3, 3, dtype=torch.float64)
            system.labels["relaxed_energy"] = torch.randn(1, dtype=torch.float64)
            system.labels["magmoms"] = torch.randn(system.num_atoms, dtype=torch.float64)
    return collate(systems).with_edges(4.0)


def require_same(found: AtomicData, expected: AtomicData) -> None:
    for name in NAMES:
        value = getattr(expected, name)
        if isinstance(value, list):
            assert getattr(found, name) == value
        else:
            assert getattr(found, name).dtype == value.dtype, name
            assert torch.equal(getattr(found, name), value), name
    assert (found.edges is None) == (expected.edges is None)
    if expected.edges is not None:
        for name in ("index", "offsets", "counts"):
            assert torch.equal(getattr(found.edges, name), getattr(expected.edges, name))
    assert found.labels.keys() == expected.labels.keys()
    for name, value in expected.labels.items():
        assert torch.equal(found.labels[name].nan_to_num(77.0), value.nan_to_num(77.0)), name


def test_pyg_round_trip(pyg, batch):
    require_same(from_pyg(to_pyg(batch)), batch)
    batch.edges = None
    require_same(from_pyg(to_pyg(batch)), batch)


def test_dgl_round_trip(dgl, batch):
    require_same(from_dgl(to_dgl(batch)), batch)
    # What DGL makes of a graph keeps what there is one of per system.
    for copied in (to_dgl(batch).clone(), to_dgl(batch).to("cpu"), to_dgl(batch).local_var()):
        require_same(from_dgl(copied), batch)


def test_a_pyg_batch_comes_apart_into_its_systems(pyg, batch):
    graph = to_pyg(batch)
    graph.validate()
    assert (graph.num_graphs, graph.num_nodes) == (3, batch.num_atoms)
    assert graph.num_edges == batch.edges.num_edges
    for single, expected in zip(graph.to_data_list(), batch.unbatch(), strict=True):
        alone = from_pyg(single)
        expected.labels = alone.labels
        require_same(alone, expected)
    # And PyTorch Geometric makes the same batch of these parts.
    again = pyg.Batch.from_data_list(graph.to_data_list())
    assert set(again.keys()) == set(graph.keys())
    require_same(from_pyg(again), batch)
    for name in ("edge_vectors", "edge_distances", "ptr", "batch"):
        assert torch.equal(again[name], graph[name])


def test_a_dgl_graph_comes_apart_into_its_systems(dgl, batch):
    parts = dgl.unbatch(to_dgl(batch))
    for part, expected in zip(parts, batch.unbatch(), strict=True):
        assert torch.equal(part.ndata["pos"], expected.pos)
        assert torch.equal(torch.stack(part.edges()), expected.edges.index)
        assert torch.equal(part.edata["cell_offsets"], expected.edges.offsets)


@pytest.mark.parametrize("framework", ["pyg", "dgl"])
def test_gradients_go_through_positions_cell_and_edge_vectors(request, batch, framework):
    request.getfixturevalue(framework)
    batch.pos.requires_grad_(True)
    batch.cell.requires_grad_(True)
    if framework == "pyg":
        graph = to_pyg(batch)
        pos, cell, distances = graph.pos, graph.cell, graph.edge_distances
        again = from_pyg(graph)
    else:
        graph = to_dgl(batch)
        pos, cell = graph.ndata["pos"], graph.system_data["cell"]
        distances = graph.edata["edge_distances"]
        again = from_dgl(graph)
    plain = to_plain(batch)

    def energy(pos, cell, distances):
        return (pos**3).sum() + (cell**2).sum() + torch.exp(-distances).sum()

    leaves = (batch.pos, batch.cell)
    expected = torch.autograd.grad(energy(plain.pos, plain.cell, plain.edge_distances), leaves)
    found = torch.autograd.grad(energy(pos, cell, distances), leaves, retain_graph=True)
    torch.testing.assert_close(found, expected)
    back = energy(again.pos, again.cell, to_plain(again).edge_distances)
    torch.testing.assert_close(torch.autograd.grad(back, leaves), expected)


@pytest.mark.parametrize("framework", ["pyg", "dgl"])
def test_a_dtype_is_that_of_the_geometry_alone(request, batch, framework):
    request.getfixturevalue(framework)
    if framework == "pyg":
        graph = to_pyg(batch, dtype=torch.float32)
        kinds = {name: graph[name].dtype for name in ("pos", "cell", "edge_vectors", "y")}
    else:
        graph = to_dgl(batch, dtype=torch.float32)
        found = {**graph.ndata, **graph.edata, **graph.system_data}
        kinds = {name: found[name].dtype for name in ("pos", "cell", "edge_vectors", "y")}
    assert kinds.pop("y") == torch.float64
    assert set(kinds.values()) == {torch.float32}


def test_a_graph_of_the_open_catalyst_files(pyg, batch):
    """Their names, numbers for texts, no pbc, edges in another order."""
    slab = batch.unbatch()[2]
    shuffled = torch.randperm(slab.edges.num_edges, generator=torch.Generator().manual_seed(0))
    graph = pyg.Data(
        pos=slab.pos.float(),
        cell=slab.cell.float(),
        atomic_numbers=slab.atomic_numbers.float(),
        natoms=4,
        tags=slab.tags.float(),
        fixed=slab.fixed.float(),
        edge_index=slab.edges.index[:, shuffled],
        cell_offsets=slab.edges.offsets[shuffled].float(),
        y=-3.25,
        y_relaxed=-4.5,
        force=slab.labels["forces"].float(),
        sid=71,
        fid=5,
    )
    found = from_pyg(graph)
    assert found.sid == ["71-frame-5"]
    assert found.pbc.tolist() == [[True, True, True]]
    assert float(found.labels["energy"]) == -3.25
    assert found.labels["relaxed_energy"].tolist() == [-4.5]
    assert torch.equal(found.tags, slab.tags)
    assert torch.equal(found.fixed, slab.fixed)
    target = found.edges.index[1]
    assert bool((target[1:] >= target[:-1]).all())
    expected = slab.edges.vectors(slab.pos, slab.cell).norm(dim=1).sort().values
    lengths = found.edges.vectors(found.pos, found.cell).norm(dim=1).sort().values
    torch.testing.assert_close(lengths, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos": None}, "no pos"),
        ({"pos": torch.zeros(4, 2)}, r"shape \(4, 2\)"),
        ({"cell_offsets": None}, "without cell_offsets"),
        ({"pbc": torch.zeros(1, 3, dtype=torch.bool)}, "not periodic"),
    ],
)
def test_an_unusable_graph_says_what_it_lacks(pyg, batch, change, message):
    graph = to_pyg(batch.unbatch()[2])[0]
    for name, value in change.items():
        graph[name] = value
    graph.num_nodes = 4
    with pytest.raises(DataError, match=message):
        from_pyg(graph)


def test_edges_between_systems_are_refused(pyg, batch):
    graph = to_pyg(batch)
    graph.edge_index = graph.edge_index.clone()
    graph.edge_index[0, 0] = batch.num_atoms - 1
    with pytest.raises(DataError, match="between different systems"):
        from_pyg(graph)


def test_dgl_needs_edges(dgl, batch):
    batch.edges = None
    with pytest.raises(GraphError, match="with_edges"):
        to_dgl(batch)


def test_without_edges_among_atoms(pyg, dgl):
    lone = collate([AtomicData.from_ase(Atoms("He"))] * 2).with_edges(3.0)
    require_same(from_pyg(to_pyg(lone)), lone)
    require_same(from_dgl(to_dgl(lone)), lone)


def test_a_missing_framework_is_one_sentence_with_the_command(monkeypatch, batch):
    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    with pytest.raises(MissingExtraError, match=r"'torch-geometric'.*pip install 'adatom\[pyg\]'"):
        to_pyg(batch)
    with pytest.raises(MissingExtraError):
        import_pyg()
    monkeypatch.delitem(sys.modules, "dgl", raising=False)
    monkeypatch.setitem(sys.modules, "dgl", None)
    with pytest.raises(MissingExtraError, match=r"'dgl'.*pip install 'adatom\[dgl\]'"):
        to_dgl(batch)
