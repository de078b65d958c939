"""Padding changes no prediction, and few sizes serve many."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from adatom.core.errors import ConfigError, GraphError
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import collate
from adatom.inference.buckets import PADDING, bucket, pad_batch, pad_edges, unpad
from adatom.models.base import Neighborhood
from adatom.models.energy_head import EnergyHead
from adatom.models.escn_md import eSCNMDBackbone
from adatom.tasks.potential import Potential
from toy_backbone import toy_potential

PROPERTIES = ("energy", "forces", "stress", "energies", "virials", "embeddings")


def network(*, trained: bool = False, **options) -> Potential:
    """A small eSCN-MD potential in float64 for the systems below."""
    torch.manual_seed(0)
    sizes = {"sphere_channels": 8, "hidden_channels": 6, "edge_channels": 5, "cutoff": 4.0}
    backbone = eSCNMDBackbone(**sizes, num_distance_basis=8, **options)
    toy = toy_potential()
    potential = Potential(backbone, EnergyHead(8, 8), toy.tasks, toy.domains).double()
    return potential if trained else potential.eval().requires_grad_(False)


def batch(*structures: Atoms):
    systems = [from_ase(atoms, dataset="default") for atoms in structures]
    return collate(systems).with_edges(4.0)


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def predict(potential, data):
    values = potential(data, PROPERTIES)
    return {name: value.detach() for name, value in potential.denormalize(values, data).items()}


@pytest.mark.parametrize(
    "make",
    [
        toy_potential,
        network,
        lambda: network(trained=True),
        lambda: network(num_experts=2),
        lambda: network(lmax=3, mmax=1),
    ],
)
def test_a_padded_batch_gives_the_same(make):
    potential = make()
    data = batch(copper(), molecule("CH3CH2OH"), molecule("O"))
    padded = pad_batch(data, data.edges.num_edges + 37, data.num_atoms + 3, cutoff=4.0)
    assert padded.edges.num_edges == data.edges.num_edges + 37
    assert padded.sid[-1] == PADDING
    lengths = padded.edges.vectors(padded.pos, padded.cell).norm(dim=1)
    assert torch.equal(lengths[data.edges.num_edges :], torch.full((37,), 4.0).double())
    potential.check_input(padded)
    expected = predict(potential, data)
    found = unpad(predict(potential, padded), data.num_systems, data.num_atoms)
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, atol=1e-12, rtol=1e-12, equal_nan=name == "stress"
        )


def neighborhood(data, dtype=torch.float64):
    vectors = data.edges.vectors(data.pos, data.cell).to(dtype).requires_grad_()
    return Neighborhood(*data.edges.index, vectors, data.edges.counts)


def evaluate(backbone, data, edges, leaf):
    features = backbone(data, [edges] * backbone.num_message_layers)
    (gradient,) = torch.autograd.grad(features.scalars.square().sum(), leaf)
    return features.scalars.detach(), gradient


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_padded_edges_give_the_same_features_and_gradients(dtype, tolerance):
    data = batch(copper(), molecule("H2O"), molecule("O"))
    for potential in (toy_potential(), network(), network(num_experts=2), network(trained=True)):
        backbone = potential.backbone.to(dtype)
        edges = neighborhood(data, dtype)
        padded = pad_edges(edges, data.batch, len(edges.source) + 29, 4.0)
        assert len(padded.source) == len(edges.source) + 29
        assert bool((padded.target.diff() >= 0).all())
        assert int(padded.counts.sum()) == len(padded.source)
        of_edge = torch.repeat_interleave(torch.arange(3), padded.counts)
        assert torch.equal(of_edge, data.batch[padded.target])
        expected = evaluate(backbone, data, edges, edges.vectors)
        found = evaluate(backbone, data, padded, edges.vectors)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def test_nothing_to_do():
    data = batch(copper())
    assert pad_batch(data, data.edges.num_edges, data.num_atoms, cutoff=4.0) is data
    edges = neighborhood(data)
    assert pad_edges(edges, data.batch, len(edges.source), 4.0) is edges


def test_what_does_not_fit_is_refused():
    data = batch(copper())
    count = data.edges.num_edges
    with pytest.raises(ConfigError, match="at least one more atom"):
        pad_batch(data, count + 5, data.num_atoms, cutoff=4.0)
    with pytest.raises(ConfigError, match="no fewer edges"):
        pad_batch(data, count - 1, data.num_atoms + 1, cutoff=4.0)
    with pytest.raises(ConfigError, match="no fewer edges"):
        pad_edges(neighborhood(data), data.batch, count - 1, 4.0)
    with pytest.raises(GraphError, match="with_edges"):
        pad_batch(from_ase(copper()), 5, 5, cutoff=4.0)


def test_few_buckets_serve_many_sizes():
    sizes = {bucket(count) for count in range(1, 100_000)}
    assert len(sizes) < 45
    for count in (1, 63, 64, 65, 1000, 4321, 99_999):
        assert count <= bucket(count) <= max(80, 1.2 * count + 16)
    assert all(bucket(size) == size for size in sizes)
    with pytest.raises(ConfigError):
        bucket(5, ratio=1.0)


def test_unpadded_hessian():
    values = {"hessian": torch.arange(81.0).view(9, 9)}
    assert torch.equal(unpad(values, 1, 2)["hessian"], values["hessian"][:6, :6])
