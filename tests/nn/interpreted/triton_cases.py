"""Triton kernels under the interpreter against plain PyTorch; run by ../test_triton_messages.py.

In a process of its own: Triton reads TRITON_INTERPRET when it is imported.
"""

from __future__ import annotations

import pytest
import torch

from adatom.core.errors import ConfigError
from adatom.nn.activations import OrderGateActivation
from adatom.nn.experts import Mixture, Run
from adatom.nn.layout import CoefficientLayout
from adatom.nn.message_passing import Edgewise
from adatom.nn.message_tiles import message_tiles
from adatom.nn.message_weights import message_weights, radial_function
from adatom.nn.prepared_weights import PreparedWeights
from adatom.nn.radial import RadialInputs, gaussian_basis, polynomial_envelope
from adatom.nn.triton_kernels.gate import gate_backward
from adatom.nn.triton_kernels.rotate import rotate, rotate_backward
from adatom.nn.triton_kernels.segments import segment_sums
from adatom.nn.triton_messages import triton_messages
from adatom.nn.wigner import edge_rotations

CUTOFF, BASIS, EDGE_CHANNELS, TYPES = 4.0, 8, 5, 2
#: Edges into each atom; some have none, and one source sends to many.
DEGREES = [3, 0, 9, 1, 4, 0]


def edges(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    target = torch.repeat_interleave(torch.arange(len(DEGREES)), torch.tensor(DEGREES))
    source = torch.randint(4, (len(target),))
    vectors = torch.randn(len(target), 3, dtype=torch.float64)
    vectors = vectors / vectors.norm(dim=1, keepdim=True) * (0.5 + 3.7 * torch.rand(len(target), 1))
    vectors[:3] = 2.0 * torch.eye(3)  # along the axes too
    vectors[3] = torch.tensor([0.0, -2.0, 0.0])
    return source, target, vectors.to(dtype)


class Case:
    """A layer with trained-looking biases, its inputs, and its messages in plain PyTorch."""

    def __init__(self, lmax, mmax, channels, hidden, *, dtype=torch.float64, experts=0):
        torch.manual_seed(lmax)
        self.layout = CoefficientLayout(lmax, mmax)
        self.layer = Edgewise(
            self.layout,
            channels,
            hidden,
            radial=(BASIS, EDGE_CHANNELS),
            num_experts=experts,
        ).to(dtype)
        for name, parameter in self.layer.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter)
        self.layer.requires_grad_(False)
        self.source, self.target, self.vectors = edges(dtype)
        self.features = torch.randn(len(DEGREES), self.layout.node_size, channels, dtype=dtype)
        self.pairs = torch.randint(TYPES * TYPES, self.source.shape)
        elements = torch.randn(2, TYPES, EDGE_CHANNELS, dtype=dtype)
        self.elements = (elements[0], elements[1])
        self.coefficients = torch.rand(2, experts, dtype=dtype) if experts else None
        # With experts, the first three atoms use the second group.
        self.runs = [Run(1, 0, 3), Run(0, 3, 6)] if experts else [Run(0, 0, 6)]
        self.memory = PreparedWeights()

    def plain(self, features, vectors):
        """Messages one edge after the other: rotate, convolve, rotate back, sum."""
        layer, layout = self.layer, self.layout
        distances = vectors.norm(dim=1)
        rotations = edge_rotations(vectors / distances[:, None], layout)
        basis = gaussian_basis(distances, CUTOFF, BASIS)
        hidden = layer.so2_conv_1.rad_func.hidden(RadialInputs(basis, self.pairs, *self.elements))
        bounds = torch.searchsorted(self.target, torch.tensor([r.start for r in self.runs] + [6]))
        runs = [
            Run(run.group, int(bounds[i]), int(bounds[i + 1])) for i, run in enumerate(self.runs)
        ]
        mixture = Mixture(self.coefficients, runs)
        rotated = [
            torch.bmm(rotations, features.index_select(0, atoms))
            for atoms in (self.source, self.target)
        ]
        orders = layer.act(*layer.so2_conv_1(rotated, mixture, hidden))
        second = layer.so2_conv_2
        merged = second.merged(self.coefficients)
        rows = []
        for m, x in enumerate(orders):
            pieces = []
            for run in runs:
                matrix, own = merged[m][run.group], x[run.start : run.stop]
                if m == 0:
                    pieces.append(own @ matrix.T + second.fc_m0.bias)
                    continue
                a, b = matrix.chunk(2)
                plus, minus = own.chunk(2, dim=1)
                real, imaginary = plus @ a.T - minus @ b.T, plus @ b.T + minus @ a.T
                pieces.append(torch.cat([real, imaginary], dim=1))
            rows.append(torch.cat(pieces))
        edge_rows = torch.cat(rows, dim=1).view(len(x), layout.edge_size, -1)
        back = torch.bmm(rotations.transpose(1, 2), edge_rows)
        back = back * polynomial_envelope(distances, CUTOFF)[:, None, None]
        return torch.zeros_like(features).index_add(0, self.target, back)

    def kernels(self, features, vectors, **options):
        size = options.pop("edges_per_tile", None)
        tiles = message_tiles(self.source, self.target, self.runs, len(DEGREES), size)
        weights = message_weights(self.layer, self.coefficients, self.memory)
        network = self.layer.so2_conv_1.rad_func
        radial = radial_function(network, self.pairs, self.elements, CUTOFF)
        return triton_messages(features, vectors, tiles, weights, radial, **options)

    def results(self, compute, **options):
        """Messages, and the gradients of a random projection."""
        inputs = [self.features.clone().requires_grad_(), self.vectors.clone().requires_grad_()]
        out = compute(*inputs, **options)
        probe = torch.randn(out.shape, dtype=torch.float64, generator=torch.manual_seed(5))
        gradients = torch.autograd.grad((out * probe.to(out)).sum(), inputs)
        return [out.detach(), *gradients]


def assert_equal(found, expected, tolerance=1e-13):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance * float(b.abs().max()), rtol=0)


@pytest.mark.parametrize("size", [(2, 2, 5, 7), (3, 1, 3, 2), (4, 2, 2, 3), (1, 0, 1, 1)], ids=str)
def test_messages_and_gradients(size):
    case = Case(*size)
    assert_equal(case.results(case.kernels), case.results(case.plain))


def test_without_degrees_above_zero():
    case = Case(0, 0, 3, 4)
    assert_equal(case.results(case.kernels), case.results(case.plain))


def test_single_precision():
    case = Case(2, 1, 8, 5, dtype=torch.float32)
    found = case.results(case.kernels)
    assert found[0].dtype == torch.float32
    assert_equal(found, case.results(case.plain), 2e-6)


def test_more_channels_than_one_block():
    case = Case(1, 1, 130, 129)
    assert_equal(case.results(case.kernels), case.results(case.plain))


@pytest.mark.parametrize("kept_bytes", [0, 1500, 2**20])
def test_experts_tiles_and_what_is_kept_change_nothing(kept_bytes):
    case = Case(2, 2, 3, 3, experts=3)
    found = case.results(case.kernels, edges_per_tile=5, kept_bytes=kept_bytes)
    assert_equal(found, case.results(case.plain))


def test_equal_to_the_last_bit_every_time():
    case = Case(2, 1, 3, 3)
    first, second = (case.results(case.kernels) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_no_edges():
    case = Case(1, 1, 3, 2)
    case.source, case.target, case.pairs = (x[:0] for x in (case.source, case.target, case.pairs))
    case.vectors = case.vectors[:0]
    out, to_features, to_vectors = case.results(case.kernels)
    assert not out.any()
    assert not to_features.any()
    assert to_vectors.shape == (0, 3)


def test_second_derivatives_take_the_reference_or_raise():
    case = Case(1, 1, 2, 2)
    hessians = []
    for compute, options in ((case.plain, {}), (case.kernels, {"reference": case.plain})):
        vectors = case.vectors.clone().requires_grad_()
        out = compute(case.features, vectors, **options)
        (slope,) = torch.autograd.grad(out.square().sum(), vectors, create_graph=True)
        hessians.append(torch.autograd.grad(slope.square().sum(), vectors)[0])
    assert_equal(hessians[:1], hessians[1:], 1e-11)
    vectors = case.vectors.clone().requires_grad_()
    out = case.kernels(case.features, vectors)
    with pytest.raises(ConfigError, match="general"):
        torch.autograd.grad(out.sum(), vectors, create_graph=True)


def test_other_activations_are_refused():
    case = Case(1, 1, 2, 2)
    case.layer.act = torch.nn.Identity()
    with pytest.raises(ConfigError, match="gate"):
        message_weights(case.layer, None, case.memory)


def test_gates():
    layout = CoefficientLayout(2, 1)
    act = OrderGateActivation(layout, 3)
    mapped = torch.randn(7, (2 + layout.edge_size) * 3, dtype=torch.float64, requires_grad=True)
    gates, *orders = torch.split(mapped, [6, *(3 * size for size in layout.order_sizes)], dim=1)
    out = torch.cat(act(orders, gates), dim=1)
    gradient = torch.randn_like(out)
    (expected,) = torch.autograd.grad((out * gradient).sum(), mapped)
    found = gate_backward(layout, mapped.detach(), gradient.view(7, layout.edge_size, 3))
    assert_equal([found], [expected])


def test_rotation_with_its_torque():
    layout = CoefficientLayout(2, 1)
    source, target, vectors = edges(torch.float64)
    features = torch.randn(6, 9, 3, dtype=torch.float64, requires_grad=True)
    width = 2 * 3 * (3 + 2)
    weights = torch.randn(len(source), width, dtype=torch.float64, requires_grad=True)
    directions = (vectors / vectors.norm(dim=1, keepdim=True)).requires_grad_()
    rotations = edge_rotations(directions, layout)
    ends = torch.stack([source, target])
    turned = torch.cat([torch.bmm(rotations, features[atoms]) for atoms in ends], dim=2)
    zero, one = torch.split(weights, [18, 12], dim=1)
    factors = torch.cat([part.view(len(source), -1, 6) for part in (zero, one, one)], dim=1)
    inputs = (features.detach(), ends, rotations.detach(), weights.detach())
    out = turned * factors
    assert_equal([rotate(layout, *inputs)], [out.detach()])
    gradient = torch.randn_like(out)
    (by_weights, by_directions) = torch.autograd.grad((out * gradient).sum(), [weights, directions])
    to_weights, to_ends, torque = rotate_backward(layout, inputs, gradient)
    assert_equal([to_weights], [by_weights])
    back = torch.bmm(rotations.detach().transpose(1, 2), gradient * factors.detach())
    assert_equal([to_ends], [torch.stack(back.chunk(2, dim=2))])
    # Across the edge; the part along it turns the frame only.
    across = torch.linalg.cross(torque, directions.detach())
    along = (torque * directions.detach()).sum(1, keepdim=True)
    assert_equal([across], [by_directions - along * _gauge(directions.detach())])


def _gauge(directions: torch.Tensor) -> torch.Tensor:
    from adatom.nn.wigner import _connection

    return _connection(directions)


def test_segment_sums_add_or_replace():
    rows = torch.randn(6, 5, dtype=torch.float64)
    order, starts = torch.tensor([5, 1, 0, 2, 4, 3]), torch.tensor([0, 2, 2, 6])
    nodes = torch.tensor([3, 0, 2])
    before = torch.randn(4, 5, dtype=torch.float64)
    out = before.clone()
    segment_sums(rows, order, starts, nodes, out, add=True)
    expected = before.clone()
    expected[3] += rows[5] + rows[1]
    expected[2] += rows[[0, 2, 4, 3]].sum(0)
    assert_equal([out], [expected])
    segment_sums(rows, order, starts, nodes, out, add=False)
    assert not out[0].any()
    assert torch.equal(out[1], before[1])
