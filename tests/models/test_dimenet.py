"""DimeNet++ against its equations written as loops, its smoothness and its lists of edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import eval_legendre, spherical_jn
from torch import nn

from adatom.core.errors import ConfigError, DataError, GraphError, UnknownNameError
from adatom.data.atomic_data import AtomicData, collate
from adatom.models.base import Neighborhood
from adatom.models.contract_subject import Subject, neighborhood
from adatom.models.dimenet import DimeNetPlusPlus, MessageUpdate
from adatom.models.edge_padding import pad_edges
from adatom.nn.spherical_bessel import bessel_roots

SIZES = {
    "emb_size": 6,
    "out_emb_size": 5,
    "int_emb_size": 4,
    "basis_emb_size": 3,
    "num_spherical": 4,
    "num_radial": 3,
}
CUTOFF = 3.6
ROOTS = bessel_roots(3, 3)
Edge = tuple[int, int, int, int, int]


def network(num_blocks: int = 2, seed: int = 0) -> DimeNetPlusPlus:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = DimeNetPlusPlus(CUTOFF, num_blocks=num_blocks, **SIZES).double()
        for parameter in net.parameters():  # zero biases would hide mistakes
            nn.init.normal_(parameter, std=0.4) if parameter.dim() == 1 else None
        return net


def system(name: str) -> AtomicData:
    data: AtomicData = getattr(Subject(lambda: None), name)()
    return data.with_edges(CUTOFF)


def envelope(x: float) -> float:
    return 1 / x - 28 * x**5 + 48 * x**6 - 21 * x**7 if x < 1 else 0.0


class Loops:
    """The equations of the papers, one message and one triplet at a time."""

    def __init__(self, net: DimeNetPlusPlus, data: AtomicData) -> None:
        self.net, self.numbers = net, data.atomic_numbers
        vectors = data.edges.vectors(data.pos, data.cell)
        columns = torch.cat([data.edges.index, data.edges.offsets.T]).T.tolist()
        self.vectors = {tuple(edge): vector for edge, vector in zip(columns, vectors, strict=True)}

    def radial(self, edge: Edge) -> torch.Tensor:
        x = float(self.vectors[edge].norm()) / CUTOFF
        return envelope(x) * torch.sin(self.net.basis.frequencies.detach() * x)

    def spherical(self, edge: Edge) -> torch.Tensor:
        """Return what of the spherical basis depends on the length, ``[L, R]``."""
        x = float(self.vectors[edge].norm()) / CUTOFF
        rows = [
            envelope(x) * math.sqrt((2 * degree + 1) / (4 * math.pi)) * math.sqrt(2)
            / abs(spherical_jn(degree + 1, roots)) * spherical_jn(degree, roots * x)
            for degree, roots in enumerate(ROOTS)
        ]  # fmt: skip
        return torch.tensor(np.stack(rows))

    def legendre(self, kj: Edge, ji: Edge) -> torch.Tensor:
        to_k, to_i = self.vectors[kj], -self.vectors[ji]
        cosine = float(to_k @ to_i / (to_k.norm() * to_i.norm()))
        return torch.tensor(eval_legendre(range(len(ROOTS)), cosine)).unsqueeze(1)

    def first(self, edge: Edge) -> torch.Tensor:
        part = self.net.first
        source, target = (part.embedding.weight[self.numbers[atom]] for atom in edge[:2])
        length = nn.functional.silu(part.length(self.radial(edge)))
        return nn.functional.silu(part.mix(torch.cat([source, target, length])))

    def updated(
        self, block: MessageUpdate, messages: dict[Edge, torch.Tensor]
    ) -> dict[Edge, torch.Tensor]:
        silu, updated = nn.functional.silu, {}
        arriving = {
            edge: silu(block.down(silu(block.other(m)) * block.radial(self.radial(edge))))
            for edge, m in messages.items()
        }
        spherical = {edge: self.spherical(edge) for edge in messages}
        for ji, message in messages.items():
            total = torch.zeros(SIZES["int_emb_size"], dtype=torch.float64)
            j, i, *image = ji
            for kj in messages:
                k, other, *back = kj
                if other == j and not (k == i and [-a for a in back] == image):
                    basis = (spherical[kj] * self.legendre(kj, ji)).flatten()
                    total += arriving[kj] * block.spherical(basis)
            update = silu(block.up(total)) + silu(block.own(message))
            for part in block.before:
                update = update + part.layers(update)
            update = message + silu(block.skip(update))
            for part in block.after:
                update = update + part.layers(update)
            updated[ji] = update
        return updated

    def output(self, k: int, messages: dict[Edge, torch.Tensor]) -> torch.Tensor:
        part = self.net.outputs[k]
        rows = torch.zeros(len(self.numbers), SIZES["emb_size"], dtype=torch.float64)
        for edge, message in messages.items():
            rows[edge[1]] += message * part.radial(self.radial(edge))
        return part.layers(rows)

    def features(self) -> torch.Tensor:
        messages = {edge: self.first(edge) for edge in self.vectors}
        outputs = [self.output(0, messages)]
        for k, block in enumerate(self.net.blocks):
            messages = self.updated(block, messages)
            outputs.append(self.output(k + 1, messages))
        return torch.cat(outputs, dim=1)


@pytest.mark.parametrize(("name", "num_blocks"), [("molecule", 2), ("crystal", 1), ("slab", 1)])
def test_equal_to_the_equations_in_loops(name, num_blocks):
    net, data = network(num_blocks), system(name)
    with torch.no_grad():
        expected = Loops(net, data).features()
        layers = [neighborhood(data, torch.float64)] * (num_blocks + 1)
        found = net(data, layers).scalars
    assert found.shape == (data.num_atoms, net.num_channels)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def second_derivatives(
    net: DimeNetPlusPlus, place: Callable[[torch.Tensor], torch.Tensor], distance: float
) -> tuple[float, ...]:
    """Return energy, slope and curvature along a path, with edges beyond the cutoff."""
    data = Subject(lambda: None).system(place(torch.tensor(distance, dtype=torch.float64)))
    edges = data.with_edges(2 * CUTOFF).edges
    s = torch.tensor(distance, dtype=torch.float64, requires_grad=True)
    whole = Neighborhood(*edges.index, edges.vectors(place(s), data.cell), edges.counts)
    energy = net(data, [whole] * net.num_message_layers).scalars.sin().sum()
    (slope,) = torch.autograd.grad(energy, s, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, s)
    return tuple(float(value.detach()) for value in (energy, slope, curvature))


@pytest.mark.parametrize("others", [1, 3])
def test_two_derivatives_are_continuous_as_a_neighbor_leaves(others):
    net = network()
    steady = torch.tensor([[0.0, 0, 0], [1.1, 0.2, 0.1], [-0.3, 1.0, 0.2]]).double()[:others]
    along = torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64)

    def place(s: torch.Tensor) -> torch.Tensor:
        return torch.cat([steady, (s * along).unsqueeze(0)])

    inside, outside = (second_derivatives(net, place, CUTOFF + d) for d in (-1e-5, 1e-5))
    early = second_derivatives(net, place, 0.9 * CUTOFF)
    for before, after, earlier in zip(inside, outside, early, strict=True):
        assert before == pytest.approx(after, abs=2e-3 * abs(earlier - after))


def test_straight_triplets_have_derivatives():
    net = network()
    data = Subject(lambda: None).system(torch.tensor([[0.0, 0, 0], [1.2, 0, 0], [2.4, 0, 0]]))
    edges = neighborhood(data.with_edges(CUTOFF), torch.float64)
    energy = net(data, [edges] * 3).scalars.sum()
    (slope,) = torch.autograd.grad(energy, edges.vectors, create_graph=True)
    slope.square().sum().backward()
    assert bool(torch.isfinite(edges.vectors.grad).all())
    assert bool((slope[:, 1:] == 0).all())


def test_padded_edges_change_nothing():
    net, data = network(), collate([system("molecule"), system("crystal")])
    edges = neighborhood(data, torch.float64)
    padded = pad_edges(edges, data.batch, edges.target.shape[0] + 40, CUTOFF)
    results = [net(data, [layer] * 3).scalars for layer in (edges, padded)]
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-12)


def part_of(whole: Neighborhood, kept: torch.Tensor) -> Neighborhood:
    return Neighborhood(
        whole.source[kept], whole.target[kept], whole.vectors[kept], kept.sum().reshape(1)
    )


def test_equal_lists_give_the_same_whether_one_object_or_several():
    net, data = network(num_blocks=3), system("crystal")
    edges = neighborhood(data, torch.float64)
    whole = part_of(edges, torch.ones_like(edges.source, dtype=torch.bool))
    expected = net(data, [edges] * 4).scalars
    for layers in ([edges, whole, whole, whole], [edges, edges, whole, edges]):
        found = net(data, layers).scalars
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_lists_that_are_not_nested_are_refused():
    net, data = network(), system("crystal")
    edges = neighborhood(data, torch.float64)
    fewer = part_of(edges, edges.target == 0)
    with pytest.raises(GraphError, match=r"is not among those of the layer before.*nested"):
        net(data, [edges, fewer, edges])
    with pytest.raises(GraphError, match="2 edge lists are given"):
        net(data, [edges, edges])


def test_no_list_of_triplets_is_made():
    data = Subject(lambda: None).crystal()
    counts = []
    for cutoff in (3.6, 6.5):
        net = DimeNetPlusPlus(cutoff, num_blocks=1, **SIZES)
        edges = neighborhood(data.with_edges(cutoff), torch.float32)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, sizes=sizes: sizes.append(tensor.numel()) or tensor, lambda x: x
        ):
            net(data, [edges] * 2)
        counts.append(sum(sizes) / edges.source.shape[0])
    assert counts[1] < 1.2 * counts[0]  # per edge, where the number of triplets per edge is 6 times


def test_wrong_arguments_are_refused():
    with pytest.raises(ConfigError, match="sizes from 1"):
        DimeNetPlusPlus(num_spherical=0)
    with pytest.raises(ConfigError, match="kink"):
        DimeNetPlusPlus(activation="torch.nn.ReLU")
    with pytest.raises(UnknownNameError, match="did you mean"):
        DimeNetPlusPlus(activation="torch.nn.SiLUU")
    data = system("molecule")
    heavy = replace(data, atomic_numbers=torch.full_like(data.atomic_numbers, 120))
    with pytest.raises(DataError, match="atomic number 120"):
        network()(heavy, [neighborhood(data, torch.float64)] * 3)


def test_the_head_of_the_paper_is_linear_and_reads_out_as_asked():
    head = DimeNetPlusPlus(num_blocks=1, readout="mean", **SIZES).default_head()
    assert head.mean_energy
    assert [tuple(p.shape) for p in head.parameters()] == [(1, 10), (1,)]
    with pytest.raises(UnknownNameError, match="median"):
        DimeNetPlusPlus(num_blocks=1, readout="median", **SIZES).default_head()
