"""Frozen weights: what is remembered and computed in tiles equals the plain computation."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from test_escn_md import OPTIONS, SMALL, backbone, structure

from adatom.data.atomic_data import collate
from adatom.models.base import Execution, Neighborhood
from adatom.models.escn_md import eSCNMDBackbone
from adatom.nn import atom_chunks, edge_tiles
from adatom.nn.prepared_weights import PreparedWeights

SYSTEMS = [structure(1, [8, 1, 1, 29]), structure(2, [6, 8], charge=-1), structure(3, [8, 1, 1])]


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    monkeypatch.setattr(edge_tiles, "_CPU_EDGES", 20)
    monkeypatch.setattr(edge_tiles, "_BLOCK_ATOMS", 3)
    monkeypatch.setattr(atom_chunks, "_CPU_ATOMS", 2)


def evaluate(model, data, *, create_graph=False):
    """Return scalars, the gradient of a nonlinear function of them, and the vectors."""
    dtype = next(model.parameters()).dtype
    vectors = data.edges.vectors(data.pos, data.cell).to(dtype).requires_grad_()
    source, target = data.edges.index
    edges = Neighborhood(source, target, vectors, data.edges.counts)
    scalars = model(data, [edges] * model.num_message_layers).scalars
    loss = scalars.square().sum()
    (gradient,) = torch.autograd.grad(loss, vectors, create_graph=create_graph)
    return scalars.detach(), gradient, vectors


@pytest.mark.parametrize("kept_bytes", [0, 2**17, 2**28])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_frozen_equals_trainable(options, kept_bytes):
    model = backbone(**options)
    data = collate(SYSTEMS)
    expected, slope, _ = evaluate(model, data)
    model.requires_grad_(False)
    model.execution = Execution("tiled", kept_bytes=kept_bytes)
    for _ in range(2):  # the second time from memory
        found, gradient, _ = evaluate(model, data)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(gradient, slope, atol=1e-11, rtol=1e-11)


def test_remembered_equals_fresh_to_the_last_bit():
    model = backbone(num_experts=3).requires_grad_(False)
    data = collate(SYSTEMS)
    fresh = evaluate(copy.deepcopy(model), data)
    evaluate(model, data)
    again = evaluate(model, data)
    assert torch.equal(fresh[0], again[0])
    assert torch.equal(fresh[1], again[1])


def test_second_derivatives_with_frozen_weights():
    model = backbone(num_experts=2)
    data = SYSTEMS[1]
    results = []
    for frozen in (False, True):
        model.requires_grad_(not frozen)
        _, gradient, vectors = evaluate(model, data, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), vectors)
        results.append(second)
    torch.testing.assert_close(results[1], results[0], atol=1e-10, rtol=1e-10)


def test_graph_of_frozen_weights_can_be_used_twice():
    model = backbone().requires_grad_(False)
    data = SYSTEMS[0]
    vectors = data.edges.vectors(data.pos, data.cell).requires_grad_()
    edges = Neighborhood(*data.edges.index, vectors, data.edges.counts)
    energy = model(data, [edges] * model.num_message_layers).scalars.square().sum()
    (first,) = torch.autograd.grad(energy, vectors, retain_graph=True)
    evaluate(model, data)  # must not take the memory that the graph still needs
    (second,) = torch.autograd.grad(energy, vectors)
    assert torch.equal(first, second)


def reloaded(model):
    state = {name: 1.1 * value for name, value in model.state_dict().items()}
    model.load_state_dict(state)


def changed_in_place(model):
    model.blocks[0].edge_wise.so2_conv_1.fc_m0.weights.mul_(1.3)


def replaced(model):
    for layer in (model.blocks[0].edge_wise.so2_conv_2.fc_m0,):
        layer.weights = torch.nn.Parameter(0.7 * layer.weights, requires_grad=False)


def through_data(model):
    weights = model.blocks[0].edge_wise.so2_conv_2.so2_m_conv[0].fc.weights
    weights.data = 1.7 * weights.data


def single(model):
    model.to(torch.float32)


def trained(model):
    model.requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    data = SYSTEMS[0]
    edges = Neighborhood(
        *data.edges.index, data.edges.vectors(data.pos, data.cell), data.edges.counts
    )
    model(data, [edges] * model.num_message_layers).scalars.square().sum().backward()
    optimizer.step()
    model.requires_grad_(False)


@pytest.mark.parametrize(
    "change", [reloaded, changed_in_place, replaced, through_data, single, trained]
)
def test_changes_of_the_weights_are_noticed(change):
    model = backbone(num_experts=3).requires_grad_(False)
    data = SYSTEMS[0]
    before, _, _ = evaluate(model, data)
    change(model)
    found = evaluate(model, data)
    expected = evaluate(copy.deepcopy(model), data)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert not torch.equal(found[0].double(), before)


def test_memory_is_bounded_and_stays_out_of_state_and_copies():
    model = backbone(num_experts=3).requires_grad_(False)
    names = set(backbone(num_experts=3).state_dict())
    for charge in range(-4, 5):
        evaluate(model, structure(1, [8, 1, 1, 29], charge=charge))
    memories = [m for module in model.modules() for m in vars(module).values()]
    memories = [m for m in memories if isinstance(m, PreparedWeights)]
    # Those that experts do not enter have one value.
    assert {len(memory) for memory in memories} == {1, 4}
    assert set(model.state_dict()) == names
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        held = [m for module in other.modules() for m in vars(module).values()]
        assert all(not len(m) for m in held if isinstance(m, PreparedWeights))
        assert torch.equal(evaluate(other, SYSTEMS[0])[0], evaluate(model, SYSTEMS[0])[0])


def test_nothing_is_remembered_while_weights_need_gradients():
    memory: PreparedWeights[torch.Tensor] = PreparedWeights()
    weight = torch.nn.Parameter(torch.ones(2))
    made = [memory.get([weight], None, lambda: 2 * weight) for _ in range(2)]
    assert made[0] is not made[1]
    assert made[0].requires_grad
    assert len(memory) == 0


@pytest.mark.parametrize("inference", [False, True])
def test_energies_alone_need_no_graph(inference):
    model: eSCNMDBackbone = backbone(**{**SMALL, "num_experts": 3})
    data = collate(SYSTEMS)
    expected, _, _ = evaluate(model, data)
    model.requires_grad_(False)
    vectors = data.edges.vectors(data.pos, data.cell)
    edges = Neighborhood(*data.edges.index, vectors, data.edges.counts)
    with torch.inference_mode(inference), torch.no_grad():
        scalars = model(data, [edges] * model.num_message_layers).scalars
    torch.testing.assert_close(scalars, expected, atol=1e-12, rtol=1e-12)
    found, _, _ = evaluate(model, data)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
