"""Layers against plain formulas."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from adatom.core.errors import ConfigError, DataError, UnknownNameError
from adatom.nn.embeddings import ChargeSpinEmbedding, DatasetEmbedding
from adatom.nn.experts import MixedLinear, Run, group_systems, grouped_linear, runs_of
from adatom.nn.norms import NORMS, build_norm
from adatom.nn.radial import RadialInputs, RadialMLP, gaussian_basis, polynomial_envelope
from adatom.nn.segments import balance_channels
from adatom.nn.target_chunks import target_chunks


def test_split_radial_network_equals_the_plain_one():
    network = RadialMLP(num_basis=7, edge_channels=5, out_features=11)
    basis, sources, targets = torch.randn(20, 7), torch.randn(3, 5), torch.randn(3, 5)
    source, target = torch.randint(3, (20,)), torch.randint(3, (20,))
    plain = network.net(torch.cat([basis, sources[source], targets[target]], dim=1))
    inputs = RadialInputs(basis, target * 3 + source, sources, targets)
    torch.testing.assert_close(network(inputs), plain)
    order = torch.randperm(11)
    torch.testing.assert_close(network(inputs, order), plain[:, order])


def test_envelope_and_its_derivatives_vanish_at_the_cutoff():
    d = torch.tensor([1e-9, 5.0 - 1e-5, 5.0, 7.0], dtype=torch.float64, requires_grad=True)
    value = polynomial_envelope(d, 5.0)
    (slope,) = torch.autograd.grad(value.sum(), d, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), d)
    assert value.tolist() == pytest.approx([1, 0, 0, 0], abs=1e-12)
    assert slope.tolist() == pytest.approx([0, 0, 0, 0], abs=1e-8)
    assert curvature.tolist() == pytest.approx([0, 0, 0, 0], abs=1e-4)
    x = 0.3
    expected = 1 - 21 * x**5 + 35 * x**6 - 15 * x**7
    assert float(polynomial_envelope(torch.tensor([1.5]).double(), 5.0)) == pytest.approx(expected)


def test_gaussian_basis():
    found = gaussian_basis(torch.tensor([1.3], dtype=torch.float64), 6.0, 4)
    expected = [torch.exp(torch.tensor(-0.5 * (1.3 - mu) ** 2 / 4.0**2)) for mu in (0, 2, 4, 6)]
    torch.testing.assert_close(found[0], torch.stack(expected).double(), atol=1e-7, rtol=0)


def test_chunks_sum_like_a_loop():
    target = torch.tensor([0] * 5 + [2] * 9 + [3])
    rows = torch.randn(15, 4)
    chunks = target_chunks(target, 5, size=4)
    summed = (chunks.gather(rows) * chunks.filled.unsqueeze(2)).sum(1)
    expected = torch.stack([rows[target == atom].sum(0) for atom in range(5)])
    torch.testing.assert_close(chunks.sum_to_atoms(summed), expected)
    assert target_chunks(target[:0], 5).edges.shape == (0, 16)


def test_grouped_experts_equal_one_system_at_a_time():
    layer = MixedLinear(6, 4, num_experts=3)
    coefficients = torch.rand(2, 3)
    counts, groups = [3, 0, 2, 4], [0, 1, 0, 1]
    runs = runs_of(groups, counts)
    assert runs == [Run(0, 0, 5), Run(1, 5, 9)]
    rows = torch.randn(9, 6)
    found = grouped_linear([rows], [layer.merged(coefficients)], layer.bias, runs)
    of_row = [0] * 5 + [1] * 4
    weights = torch.einsum("gx,xoi->goi", coefficients, layer.weights)
    expected = torch.stack([weights[g] @ x for g, x in zip(of_row, rows, strict=True)]) + layer.bias
    torch.testing.assert_close(found, expected)


def test_equal_systems_are_grouped():
    keys = torch.tensor([[1, 2], [3, 4], [1, 2]])
    assert group_systems(keys) == ([0, 1, 0], [0, 1])


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("lmax", [0, 2])
def test_norms_give_unit_size_and_ignore_scale(kind, lmax):
    norm = build_norm(kind, 32, lmax)
    features = torch.randn(5, (lmax + 1) ** 2, 32)
    out = norm(features)
    torch.testing.assert_close(norm(features * 1e3), out, atol=1e-3, rtol=1e-3)
    degrees = torch.split(out, [2 * degree + 1 for degree in range(lmax + 1)], dim=1)
    square = torch.stack([x.square().mean(dim=(1, 2)) for x in degrees]).mean(0)
    torch.testing.assert_close(square, torch.ones(5), atol=1e-3, rtol=0)
    torch.testing.assert_close(out[:, 0].mean(1), torch.zeros(5), atol=1e-5, rtol=0)


def test_unknown_norm_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'layer_norm'"):
        build_norm("layernorm", 4, 2)


def test_balanced_channels_sum_to_the_total():
    features = torch.randn(5, 4, 6)
    before = features.clone()
    batch, natoms = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([2, 3])
    out = balance_channels(features, slice(1, 3), torch.tensor([-1, 2]), batch, natoms)
    sums = torch.stack([out[:2, 0, 1:3].sum(0), out[2:, 0, 1:3].sum(0)])
    torch.testing.assert_close(sums, torch.tensor([[-1.0, -1.0], [2.0, 2.0]]))
    assert torch.equal(features, before)
    assert torch.equal(out[:, 1:], before[:, 1:])


@pytest.mark.parametrize("kind", ["rand_emb", "pos_emb", "lin_emb"])
def test_charge_and_spin_embeddings(kind):
    values = torch.tensor([0, 1, 5])
    for quantity in ("charge", "spin"):
        embedding = ChargeSpinEmbedding(kind, quantity, 8)
        assert embedding(values, ["a", "b", "c"]).shape == (3, 8)
    assert values.tolist() == [0, 1, 5]
    if kind == "pos_emb":
        assert not embedding(values, ["a", "b", "c"])[0].any()
        assert not embedding.W.requires_grad
    if kind == "lin_emb":
        expected = functional.linear(
            torch.tensor([[-100.0]]), embedding.lin_emb.weight, embedding.lin_emb.bias
        )
        torch.testing.assert_close(embedding(values, ["a", "b", "c"])[:1], expected)


def test_values_outside_the_tables_name_the_structure():
    embedding = ChargeSpinEmbedding("rand_emb", "spin", 4)
    with pytest.raises(DataError, match="'water' has spin 101"):
        embedding(torch.tensor([1, 101]), ["copper", "water"])
    with pytest.raises(UnknownNameError, match="rand_emb"):
        ChargeSpinEmbedding("rand", "spin", 4)


def test_datasets_share_vectors_through_the_mapping():
    embedding = DatasetEmbedding(4, {"oc20": "oc20", "oc20_subset": "oc20", "omat": "omat"})
    rows = embedding(["oc20_subset", "omat", "oc20"])
    assert torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[0], rows[1])
    with pytest.raises(UnknownNameError, match="did you mean 'omat'"):
        embedding(["omatt"])
    with pytest.raises(ConfigError, match="without dots"):
        DatasetEmbedding(4, {"a.b": "a.b"})
