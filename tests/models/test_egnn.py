"""EGNN against the paper's formulas over all pairs, its symmetry to 1e-10, and its arguments."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import silu

from adatom.core.errors import ConfigError, UnknownNameError
from adatom.data.atomic_data import AtomicData
from adatom.models.contract import Subject
from adatom.models.contract_subject import Model, moved, neighborhood
from adatom.models.egnn import EGNN

CUTOFF = 4.0
#: By how much the weights that move coordinates are enlarged, so that tests feel them.
LIVELY = 3e3


def small(**changes) -> Model:
    torch.manual_seed(7)
    arguments = {"cutoff": CUTOFF, "hidden_dim": 6, "num_layers": 3, "num_radial": 4, **changes}
    backbone = EGNN(**arguments)
    for block in backbone.blocks:
        if block.move is not None:
            block.move[2].weight.data *= LIVELY
    return Model(backbone, backbone.default_head()).double()


SUBJECT = Subject(lambda: (EGNN(), EGNN().default_head()))


def dense(backbone: EGNN, system: AtomicData) -> torch.Tensor:
    """Return the features by eqs. 3-6 and 8 of the paper: coordinates, all pairs, no edges."""
    n = system.num_atoms
    h, x = backbone.embedding.weight[system.atomic_numbers], system.pos
    ratio = (torch.cdist(x, x) / CUTOFF).clamp(max=1)
    f = (1 - 21 * ratio**5 + 35 * ratio**6 - 15 * ratio**7) * (1 - torch.eye(n).double())
    for block in backbone.blocks:
        e = x[None, :] - x[:, None]  # from target i to source j
        d = (e**2).sum(2).sqrt()
        columns = [(d / CUTOFF)[:, :, None] ** 2]
        if block.num_radial:
            centers = torch.linspace(0, CUTOFF, block.num_radial, dtype=torch.float64)
            width = 2 * CUTOFF / (block.num_radial - 1)
            columns.append(torch.exp(-((d[:, :, None] - centers) ** 2) / (2 * width**2)))
        parts = (block.of_target, block.of_source, block.of_distance)
        weight = torch.cat([part.weight for part in parts], dim=1)
        pairs = torch.cat([h[:, None].expand(n, n, -1), h[None].expand(n, n, -1), *columns], dim=2)
        m = silu(pairs @ weight.T + block.of_target.bias)
        m = silu(m @ block.edge[1].weight.T + block.edge[1].bias)
        if block.move is not None:
            phi = silu(m @ block.move[0].weight.T + block.move[0].bias) @ block.move[2].weight.T
            phi = torch.tanh(phi) if isinstance(block.move[3], torch.nn.Tanh) else phi
            step = e / (d[:, :, None] + 1) if block.normalize else e
            x = x - (f[:, :, None] * phi * step).sum(1) / (1 + f.sum(1, keepdim=True))
        a = f
        if block.score is not None:
            s = (m @ block.score.weight.T + block.score.bias).squeeze(2)
            a = f * s.exp() / (1 + (f * s.exp()).sum(1, keepdim=True))
            a = a if block.softmax else f / (1 + (-s).exp())
        own = torch.cat([h, (a[:, :, None] * m).sum(1)], dim=1)
        own = silu(own @ block.node[0].weight.T + block.node[0].bias)
        h = h + own @ block.node[2].weight.T + block.node[2].bias
    return h


@pytest.mark.parametrize("attention", ["none", "sigmoid", "softmax"])
@pytest.mark.parametrize("changes", [{}, {"num_radial": 0, "normalize": False, "tanh": False}])
def test_features_equal_the_formulas_over_all_pairs(attention, changes):
    model, molecule = small(attention=attention, **changes), SUBJECT.molecule()
    found = model.evaluate(molecule).features.scalars
    torch.testing.assert_close(found, dense(model.backbone, molecule), rtol=1e-9, atol=1e-9)


def displacements(model: Model, system: AtomicData) -> torch.Tensor:
    """Return how far the coordinates have moved before the last block, ``[N, 3]``."""
    seen = []
    last = model.backbone.blocks[-1]
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].detach()))
    model.evaluate(system)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("attention", ["none", "sigmoid", "softmax"])
def test_turned_and_mirrored_structures_move_with_the_turn(attention):
    model = small(attention=attention)
    generator = torch.Generator().manual_seed(3)
    for sign in (1.0, -1.0):
        random = torch.randn(3, 3, generator=generator, dtype=torch.float64)
        turn = sign * torch.linalg.qr(random).Q
        for system in SUBJECT.structures():
            image = moved(system, system.pos @ turn, system.cell @ turn)
            before, after = model.evaluate(system), model.evaluate(image)
            expected = displacements(model, system) @ turn
            assert expected.abs().max() > 0.005
            exact = {"rtol": 0, "atol": 1e-10}
            torch.testing.assert_close(displacements(model, image), expected, **exact)
            torch.testing.assert_close(after.energy, before.energy, **exact)
            torch.testing.assert_close(after.forces, before.forces @ turn, **exact)


def test_supercells_and_images_move_alike():
    """A crystal twice as long, its atoms replaced by images, has the same displacements."""
    model, crystal = small(), SUBJECT.crystal()
    cell = crystal.cell[0]
    pos = torch.cat([crystal.pos, crystal.pos + cell[0] * torch.tensor([[1.0], [-1.0], [3.0]])])
    double = SUBJECT.system(pos, cell * torch.tensor([[2.0], [1.0], [1.0]]))
    expected = displacements(model, crystal).repeat(2, 1)
    found = displacements(model, double)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert expected.abs().max() > 0.005


def test_without_moving_the_coordinates_are_those_of_the_structure():
    model = small(update_coordinates=False)
    assert torch.equal(displacements(model, SUBJECT.crystal()), torch.zeros(3, 3).double())
    assert not [name for name, _ in model.named_parameters() if ".move." in name]


def test_every_parameter_matters_to_the_energy():
    """Several processes wait for gradients of all of them."""
    model = small(attention="softmax")
    model.evaluate(SUBJECT.crystal(), create_graph=True).energy.sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_the_last_neighbor_leaves_smoothly_with_softmax():
    model = small(attention="softmax")
    alone = model.evaluate(SUBJECT.system(torch.zeros(2, 3) + torch.tensor([[0.0], [9.0]]))).energy
    pair = SUBJECT.system(torch.tensor([[0.0, 0, 0], [CUTOFF * (1 - 1e-4), 0, 0]]))
    torch.testing.assert_close(model.evaluate(pair).energy, alone, rtol=0, atol=1e-8)
    near = SUBJECT.system(torch.tensor([[0.0, 0, 0], [CUTOFF * 0.6, 0, 0]]))
    assert (model.evaluate(near).energy - alone).abs().item() > 1e-4


def test_large_scores_do_not_overflow():
    model = small(attention="softmax")
    for block in model.backbone.blocks:
        block.score.bias.data += 2000.0
    assert torch.isfinite(model.evaluate(SUBJECT.molecule()).forces).all()


def test_meeting_atoms_give_finite_forces():
    """Displaced atoms may come to lie on each other; there the root of the square has no slope."""
    model = small()
    data = SUBJECT.molecule().with_edges(CUTOFF)
    layer = neighborhood(data, torch.float64)
    block, h = model.backbone.blocks[0], torch.ones(5, 6).double()
    # Displacements that undo every edge of atom 0: all atoms in one point.
    features, _ = block(h, -data.pos, layer, torch.ones(len(layer.vectors), 1).double())
    (slope,) = torch.autograd.grad(features.sum(), layer.vectors)
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("changes", [{"num_layers": 0}, {"num_radial": 1}, {"hidden_dim": 0}])
def test_sizes_out_of_range_are_refused(changes):
    with pytest.raises(ConfigError, match=f"{next(iter(changes))} {next(iter(changes.values()))}"):
        small(**changes)


def test_unknown_attention_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'sigmoid'"):
        small(attention="sigmoyd")
