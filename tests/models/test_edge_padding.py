"""Padded edges change no feature, and few sizes serve many."""

from __future__ import annotations

import pytest
import torch
from test_escn_frozen import SYSTEMS
from test_escn_md import backbone

from adatom.core.errors import ConfigError
from adatom.models.base import Execution, Neighborhood
from adatom.models.edge_padding import bucket, pad_edges
from toy_backbone import toy_potential


def neighborhood(data, dtype=torch.float64):
    vectors = data.edges.vectors(data.pos, data.cell).to(dtype).requires_grad_()
    return Neighborhood(*data.edges.index, vectors, data.edges.counts)


def evaluate(model, data, edges, leaf):
    features = model(data, [edges] * model.num_message_layers)
    (gradient,) = torch.autograd.grad(features.scalars.square().sum(), leaf)
    return features.scalars.detach(), gradient


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("mode", ["general", "tiled"])
def test_padded_edges_give_the_same_features_and_gradients(mode, dtype, tolerance):
    for made in (toy_potential().backbone, backbone(), backbone(num_experts=2)):
        model = made.to(dtype).requires_grad_(False)
        model.execution = Execution(mode)
        data = SYSTEMS[0].with_edges(model.cutoff)
        edges = neighborhood(data, dtype)
        padded = pad_edges(edges, data.batch, len(edges.source) + 29, model.cutoff)
        assert len(padded.source) == len(edges.source) + 29
        assert bool((padded.target.diff() >= 0).all())
        assert int(padded.counts.sum()) == len(padded.source)
        expected = evaluate(model, data, edges, edges.vectors)
        found = evaluate(model, data, padded, edges.vectors)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def test_nothing_to_do():
    data = SYSTEMS[0]
    edges = neighborhood(data)
    assert pad_edges(edges, data.batch, len(edges.source), 5.0) is edges


def test_what_does_not_fit_is_refused():
    data = SYSTEMS[0]
    with pytest.raises(ConfigError, match="no fewer edges"):
        pad_edges(neighborhood(data), data.batch, data.edges.num_edges - 1, 5.0)


def test_few_buckets_serve_many_sizes():
    sizes = {bucket(count) for count in range(1, 100_000)}
    assert len(sizes) < 45
    for count in (1, 63, 64, 65, 1000, 4321, 99_999):
        assert count <= bucket(count) <= max(80, 1.2 * count + 16)
    assert all(bucket(size) == size for size in sizes)
    with pytest.raises(ConfigError):
        bucket(5, ratio=1.0)
