"""GAANet against loops over tuples with Pauli matrices, symmetries to 1e-10, and smoothness."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from adatom.core.errors import ConfigError, UnknownNameError
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Neighborhood
from adatom.models.contract_subject import Model, Outcome, Subject, moved, neighborhood
from adatom.models.gaanet import GAANet
from adatom.nn.geometric_attention import FeatureAttention, MultivectorAttention, TupleValues

PAULI = torch.tensor(
    [[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]],
    dtype=torch.complex128,
)
GUARD = 0.1
LARGEST_SCORE = 8.0
SMALL: dict[str, Any] = {"hidden_dim": 6, "cutoff": 3.0, "depth": 1}


def subject(**changes: Any) -> Subject:
    def make() -> Any:
        backbone = GAANet(**{**SMALL, **changes})
        return backbone, backbone.default_head()

    return Subject(make)


# --- An independent implementation: matrices for multivectors, one loop per sum. ---


def matrix_of(vector: torch.Tensor) -> torch.Tensor:
    return torch.einsum("k,kab->ab", vector.to(torch.complex128), PAULI[1:])


def four_invariants(matrix: torch.Tensor, mirror: bool) -> torch.Tensor:
    """Read s, v, b, t from M = s + v.sigma + i b.sigma + i t by traces with Pauli matrices."""
    traces = torch.stack([(matrix @ sigma).diagonal().sum() / 2 for sigma in PAULI])
    scalar, vector = traces.real[0], traces.real[1:]
    trivector, bivector = traces.imag[0], traces.imag[1:]

    def guarded(square: torch.Tensor) -> torch.Tensor:
        return (square + GUARD**2).sqrt() - GUARD

    volume = guarded(trivector**2) if mirror else trivector
    lengths = [guarded((vector**2).sum()), guarded((bivector**2).sum())]
    return torch.stack([scalar, *lengths, volume])


def combine(part: Any, rows: list[torch.Tensor]) -> torch.Tensor:
    if not len(part.maps):
        return sum(rows[1:], rows[0]) / len(rows)
    mapped = [row @ layer.weight.T for layer, row in zip(part.maps, rows, strict=True)]
    return sum(mapped[1:], mapped[0])


def value_of(
    module: TupleValues, matrices: list[torch.Tensor], rows: list[torch.Tensor]
) -> torch.Tensor:
    """Return y of one tuple."""
    whole = matrices[0] if len(matrices) == 1 else matrices[0] @ matrices[1]
    seen = [whole]
    if len(matrices) == 2:
        seen += {"single": [], "partial": matrices[:1], "full": matrices}[
            module.options.invariant_mode
        ]
    q = torch.cat([four_invariants(matrix, module.options.mirror) for matrix in seen])
    return combine(module.join, [mlp(module.values, q), combine(module.merge, rows)])


def mlp(layers: Any, x: torch.Tensor) -> torch.Tensor:
    hidden = functional.silu(x @ layers[0].weight.T + layers[0].bias)
    return hidden @ layers[2].weight.T + layers[2].bias


def weight_of(score: torch.Tensor, envelope: torch.Tensor) -> torch.Tensor:
    return envelope * torch.exp(LARGEST_SCORE * torch.tanh(score / LARGEST_SCORE))


def new_matrices(module: MultivectorAttention, cloud: list[Any]) -> list[torch.Tensor]:
    out = []
    for matrix, row, _ in cloud:
        if module.tuples.options.rank == 1:
            scale = mlp(module.scores, value_of(module.tuples, [matrix], [row]))[0]
            out.append(module.mix[0] * scale * matrix)
            continue
        above, below = torch.zeros_like(matrix), torch.zeros((), dtype=torch.float64)
        for other, other_row, envelope in cloud:
            score, scale = mlp(
                module.scores, value_of(module.tuples, [matrix, other], [row, other_row])
            )
            weight = weight_of(score, envelope)
            mixed = module.mix[0] * matrix + module.mix[1] * (matrix @ other)
            above, below = above + weight * scale * mixed, below + weight
        out.append(above / below)
    return out


def new_features(module: FeatureAttention, cloud: list[Any]) -> list[torch.Tensor]:
    """Return one row per point, or a single one if the module reduces."""
    pairs = module.tuples.options.rank == 2
    groups = []
    for matrix, row, own in cloud:
        terms = []
        for other, other_row, envelope in cloud if pairs else [(None, None, 1.0)]:
            matrices, rows = ([matrix, other], [row, other_row]) if pairs else ([matrix], [row])
            value = value_of(module.tuples, matrices, rows)
            factor = envelope * own if module.reduce else envelope
            terms.append((value, factor))
        groups.append(terms)
    if module.reduce:
        groups = [[term for terms in groups for term in terms]]
    out = []
    for terms in groups:
        if module.scores is None:
            out.append(terms[0][0])
            continue
        weights = [weight_of(mlp(module.scores, y)[0], factor) for y, factor in terms]
        total = sum(w * y for w, (y, _) in zip(weights, terms, strict=True))
        out.append(total / sum(weights))
    return out


def normalized(matrix: torch.Tensor) -> torch.Tensor:
    # The Frobenius norm counts every component of the multivector twice.
    return matrix / (1 + (matrix.abs() ** 2).sum() / 2).sqrt()


def pair_features(net: GAANet, pair: tuple[int, int], length: torch.Tensor) -> torch.Tensor:
    own, other = net.element.weight[pair[0]], net.element.weight[pair[1]]
    both = torch.cat([own + other, other - own])
    if not net.num_radial:
        return both @ net.pair.weight.T + net.pair.bias
    centers = torch.linspace(0, net.cutoff, net.num_radial, dtype=torch.float64)
    spread = 2 * net.cutoff / (net.num_radial - 1)
    basis = torch.exp(-0.5 * ((length - centers) / spread) ** 2)
    return mlp(net.pair, torch.cat([both, basis]))


def cloud_of(net: GAANet, data: AtomicData, atom: int) -> list[Any]:
    """Return matrix, features and envelope of each point."""
    assert data.edges is not None
    vectors = data.edges.vectors(data.pos, data.cell)
    points = [(atom, torch.zeros(3, dtype=torch.float64))]
    for (source, target), vector in zip(data.edges.index.T.tolist(), vectors, strict=True):
        points += [(source, vector)] if target == atom else []
    numbers, cloud = data.atomic_numbers.tolist(), []
    for source, vector in points:
        x = vector.norm() / net.cutoff
        row = pair_features(net, (numbers[atom], numbers[source]), vector.norm())
        envelope = 1 - 21 * x**5 + 35 * x**6 - 15 * x**7
        cloud.append((matrix_of(vector * 2 / net.cutoff), row, envelope))
    return cloud


def features_by_loops(net: GAANet, data: AtomicData) -> torch.Tensor:
    rows = []
    for atom in range(data.num_atoms):
        cloud = cloud_of(net, data, atom)
        start = [point[0] for point in cloud]
        for layer in net.rounds:
            turned = [normalized(m) for m in new_matrices(layer.turn, cloud)]
            turned = [m + first for m, first in zip(turned, start, strict=True)]
            if layer.residual:
                turned = [m + old[0] for m, old in zip(turned, cloud, strict=True)]
            cloud = [(m, old[1], old[2]) for m, old in zip(turned, cloud, strict=True)]
            attended = new_features(layer.attend, cloud)
            if not isinstance(layer.network, torch.nn.Identity):
                attended = [mlp(layer.network, row) for row in attended]
            if layer.residual and not layer.last:
                attended = [row + old[1] for row, old in zip(attended, cloud, strict=True)]
            attended = [
                functional.layer_norm(row, row.shape, layer.norm.weight, layer.norm.bias)
                for row in attended
            ]
            if layer.last:
                rows.append(mlp(net.final, attended[0]))
            else:
                cloud = [(o[0], row, o[2]) for o, row in zip(cloud, attended, strict=True)]
    return torch.stack(rows)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rank": 1},
        {"rank": 1, "merge_fun": "mean", "join_fun": "mean", "depth": 0},
        {"merge_fun": "mean", "join_fun": "mean", "invariant_mode": "partial", "num_radial": 0},
        {"invariant_mode": "single", "residual": False, "depth": 2, "nonlinearities": False},
        {"reflection_invariant": False, "depth": 2},
    ],
)
def test_features_are_those_of_loops_over_tuples(changes):
    suite = subject(**changes, cutoff=2.5)
    model = suite.model()
    for system in (suite.molecule(), suite.crystal()):
        data = model.with_edges(system)
        with torch.no_grad():
            expected = features_by_loops(model.backbone, data)
            found = model.backbone(data, [neighborhood(data, model.dtype)]).scalars
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def _before_and_after(matrix: torch.Tensor, suite: Subject) -> tuple[Outcome, Outcome]:
    model = suite.model()
    molecule = suite.molecule()
    return model.evaluate(molecule), model.evaluate(moved(molecule, molecule.pos @ matrix))


def _orthogonal(sign: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    matrix = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    return matrix * torch.linalg.det(matrix).sign() * sign


@pytest.mark.parametrize("rank", [1, 2])
def test_rotations_turn_forces_and_nothing_else_to_1e_10(rank):
    turn = _orthogonal(1.0)
    before, after = _before_and_after(turn, subject(rank=rank, depth=2))
    torch.testing.assert_close(after.energies, before.energies, rtol=0, atol=1e-10)
    torch.testing.assert_close(after.forces, before.forces @ turn, rtol=0, atol=1e-10)


@pytest.mark.parametrize("promised", [True, False])
def test_mirror_images_differ_only_if_the_trivector_has_its_sign(promised):
    suite = subject(reflection_invariant=promised, depth=2)
    assert suite.model().backbone.reflection_invariant is promised
    before, after = _before_and_after(_orthogonal(-1.0), suite)
    difference = float((after.energies - before.energies).detach().abs().max())
    assert difference < 1e-10 if promised else difference > 1e-7


def _energy(model: Model, r: torch.Tensor, pairs: list[tuple[int, int]]) -> torch.Tensor:
    """Return the energy of atoms 1 and 2, and atom 0 at ``r`` along x, with these edges."""
    fixed = torch.tensor([[0.0, 0, 0], [0.0, 1.1, 0.2]], dtype=torch.float64)
    place = torch.cat([torch.stack([r, 0 * r, 0 * r])[None], fixed])
    source, target = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).T
    near = Neighborhood(source, target, place[source] - place[target], torch.tensor([len(pairs)]))
    system = Subject(lambda: (model.backbone, model.head)).system(place.detach())
    return model.head(model.backbone(system, [near]), system)["energies"].sum()


def _derivatives(model: Model, distance: float, pairs: list[tuple[int, int]]) -> list[float]:
    """Return energy, slope and curvature by the distance."""
    r = torch.tensor(distance, dtype=torch.float64, requires_grad=True)
    energy = _energy(model, r, pairs)
    (slope,) = torch.autograd.grad(energy, r, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, r)
    return [float(value.detach()) for value in (energy, slope, curvature)]


@pytest.mark.parametrize(
    ("pairs", "left"),
    [([(1, 0), (0, 1)], []), ([(1, 0), (0, 1), (2, 1), (1, 2)], [(2, 1), (1, 2)])],
    ids=["the last neighbor", "one of two"],
)
def test_no_step_in_energy_slope_and_curvature_when_a_neighbor_leaves(pairs, left):
    model = subject(depth=2).model()
    inside = _derivatives(model, SMALL["cutoff"] - 1e-6, pairs)
    outside = _derivatives(model, SMALL["cutoff"] + 1e-6, pairs)
    assert outside[1:] == [0.0, 0.0]
    assert inside == pytest.approx(outside, abs=1e-4)
    # As if it had never been in the list.
    alone = _energy(model, torch.tensor(9.0, dtype=torch.float64), left)
    assert float(alone.detach()) == pytest.approx(outside[0], abs=1e-12)
    assert abs(_derivatives(model, 2.0, pairs)[0] - outside[0]) > 1e-4


def test_lone_atoms_have_the_energy_of_their_element():
    suite = subject()
    model = suite.model()
    apart = suite.system(torch.tensor([[0.0, 0, 0], [50.0, 0, 0], [100.0, 0, 0]]))
    energies = model.evaluate(apart).energies.tolist()
    assert len(set(energies)) == 3
    assert model.evaluate(apart).forces.eq(0).all()


def test_readout_chooses_the_head():
    assert GAANet(readout="mean").default_head().mean_energy
    assert not GAANet().default_head().mean_energy
    assert GAANet(hidden_dim=7).default_head().init_args["num_channels"] == 7


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"rank": 3}, ConfigError, "rank of the attention is 3"),
        ({"merge_fun": "max"}, UnknownNameError, "merge_fun"),
        ({"join_fun": "means"}, UnknownNameError, "did you mean 'mean'"),
        ({"invariant_mode": "ful"}, UnknownNameError, "did you mean 'full'"),
        ({"readout": "max"}, UnknownNameError, "readout"),
        ({"cutoff": 0.0}, ConfigError, "cutoff is 0.0"),
        ({"dilation": 0.0}, ConfigError, "dilation is 0.0"),
        ({"hidden_dim": 0}, ConfigError, "hidden_dim is 0"),
        ({"num_radial": 1}, ConfigError, "num_radial is 1"),
        ({"depth": -1}, ConfigError, "depth is -1"),
        ({"activation": "silly"}, UnknownNameError, "activation"),
    ],
)
def test_what_cannot_be_is_refused(wrong, error, says):
    with pytest.raises(error, match=says):
        GAANet(**wrong)
