"""The graph convolutional network against matrices, and its arguments."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import silu

from adatom.core.errors import ConfigError, DataError, UnknownNameError
from adatom.data.atomic_data import collate
from adatom.models.contract import Subject
from adatom.models.contract_subject import Model, neighborhood
from adatom.models.gcn import GraphConvModel

CUTOFF = 4.0


def small(**changes) -> Model:
    arguments = {
        "cutoff": CUTOFF, "atom_embedding_dim": 6, "out_dim": 4, "num_blocks": 2,
        "num_fc_layers": 2, "num_radial": 5, **changes,
    }  # fmt: skip
    torch.manual_seed(7)
    backbone = GraphConvModel(**arguments)
    return Model(backbone, backbone.default_head()).double()


SUBJECT = Subject(lambda: (GraphConvModel(), GraphConvModel().default_head()))


def test_features_equal_products_of_full_matrices():
    """D^(-1/2) (A + 1) D^(-1/2) over all pairs, with one such matrix per channel."""
    model, molecule = small(), SUBJECT.molecule()
    backbone = model.backbone
    d = torch.cdist(molecule.pos, molecule.pos)
    x = (d / CUTOFF).clamp(max=1)
    adjacency = (1 - 21 * x**5 + 35 * x**6 - 15 * x**7).fill_diagonal_(0)
    assert (adjacency > 0).sum() == 20  # all pairs are within the cutoff
    root = torch.diag((1 + adjacency.sum(1)) ** -0.5)
    centers = torch.linspace(0, CUTOFF, 5, dtype=torch.float64)
    width = 2 * CUTOFF / 4
    gaussians = torch.exp(-((d[:, :, None] - centers) ** 2) / (2 * width**2))
    h = backbone.embedding.weight[molecule.atomic_numbers]
    for block in backbone.blocks:
        filters = gaussians @ block.radial.weight.T
        columns = []
        for c in range(h.shape[1]):
            matrix = root @ (adjacency * filters[:, :, c] + torch.eye(5).double()) @ root
            columns.append(matrix @ h[:, c])
        h = torch.stack(columns, dim=1)
        h = silu(h @ block.layers[0].weight.T + block.layers[0].bias)
        h = silu(h @ block.layers[2].weight.T + block.layers[2].bias)
    torch.testing.assert_close(model.evaluate(molecule).features.scalars, h, rtol=1e-12, atol=1e-12)


def test_widths_go_down_in_equal_steps():
    backbone = GraphConvModel(atom_embedding_dim=128, out_dim=32, num_blocks=3, num_fc_layers=3)
    shapes = [tuple(block.layers[0].weight.shape) for block in backbone.blocks]
    assert shapes == [(96, 128), (64, 96), (32, 64)]
    assert [len(block.layers) for block in backbone.blocks] == [6, 6, 6]
    assert [p.shape for p in backbone.default_head().parameters()] == [(1, 32), (1,)]


def test_a_neighbor_that_leaves_changes_no_derivative_suddenly():
    """Slope and curvature of the energy are continuous where an edge ends."""
    model, molecule = small(), SUBJECT.molecule()
    data = molecule.with_edges(2 * CUTOFF)
    longest = float(neighborhood(data, torch.float64).vectors.detach().norm(dim=1).max())

    def derivatives(factor: float) -> tuple[float, float]:
        scale = torch.tensor(factor * CUTOFF / longest, dtype=torch.float64, requires_grad=True)
        layer = neighborhood(data, torch.float64)
        layer.vectors = layer.vectors.detach() * scale
        layers = [layer] * 3
        energy = model.head(model.backbone(data, layers), data)["energies"].sum()
        (slope,) = torch.autograd.grad(energy, scale, create_graph=True)
        (curvature,) = torch.autograd.grad(slope, scale)
        return float(slope.detach()), float(curvature)

    inside, outside = derivatives(1 - 1e-7), derivatives(1 + 1e-7)
    assert inside == pytest.approx(outside, abs=1e-5)
    assert abs(inside[0]) > 1e-4


def test_mean_divides_by_the_number_of_atoms():
    assert small(readout="mean").head.mean_energy
    assert not small().head.mean_energy


@pytest.mark.parametrize("changes", [{"num_blocks": 0}, {"out_dim": 0}, {"num_radial": 1}])
def test_sizes_out_of_range_are_refused(changes):
    with pytest.raises(ConfigError, match=f"{next(iter(changes))} {next(iter(changes.values()))}"):
        small(**changes)


def test_wrong_names_and_elements_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'mean'"):
        small(readout="meen")
    with pytest.raises(ConfigError, match="has a kink"):
        small(activation="torch.nn.ReLU")
    with pytest.raises(DataError, match="Atom 2 of the batch has atomic number 8"):
        small(max_num_elements=8).evaluate(collate([SUBJECT.system(2 * torch.eye(3))] * 2))
