"""Recordings of small systems, with a stand-in for the recording: what needs no GPU."""

from __future__ import annotations

import pytest
import torch
from ase.build import molecule
from test_escn_md import backbone

from adatom.core.errors import ConfigError
from adatom.data.ase_convert import from_ase
from adatom.models import escn_graphs
from adatom.models.base import Execution, Neighborhood, NodeFeatures
from adatom.models.edge_padding import bucket
from adatom.models.escn_graphs import Recordings, record
from recorder import Recorder


@pytest.fixture(name="model")
def _model():
    model = backbone(num_layers=1).requires_grad_(False)
    model.execution = Execution("tiled")
    return model


def frames(count, model):
    """Snapshots of a moving molecule, with numbers of edges that change."""
    atoms = molecule("CH3CH2OH")
    for step in range(count):
        moved = atoms.copy()
        moved.rattle(0.15 * step, seed=step)
        moved.positions *= 1 + 0.1 * step
        yield from_ase(moved, dataset="default").with_edges(model.cutoff)


def recordings(model, data, recorder):
    return Recordings(
        lambda edges: model(data, [edges] * model.num_message_layers),
        data.batch,
        model.cutoff,
        recorder,
    )


def edges_of(data):
    vectors = data.edges.vectors(data.pos, data.cell).requires_grad_()
    return Neighborhood(*data.edges.index, vectors, data.edges.counts)


def gradient(features, vectors):
    loss = features.scalars.square().sum() + features.spherical[:, 1:].sin().sum()
    return torch.autograd.grad(loss, vectors)[0]


def assert_same(model, data, found):
    edges = edges_of(data)
    expected = model(data, [edges] * model.num_message_layers)
    features, vectors = found
    torch.testing.assert_close(features.spherical, expected.spherical, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(
        gradient(features, vectors), gradient(expected, edges.vectors), atol=1e-12, rtol=1e-12
    )


def test_few_recordings_serve_a_run(model):
    recorder, run = Recorder(), list(frames(6, model))
    recorded = recordings(model, run[0], recorder)
    for data in [*run, *run]:
        edges = edges_of(data)
        assert_same(model, data, (recorded.features(edges), edges.vectors))
    sizes = {data.edges.num_edges for data in run}
    assert sorted(recorder.shapes) == sorted({bucket(size) for size in sizes})
    assert len(recorder.shapes) < len(sizes)
    assert recorded.reason is None


def test_few_recordings_are_kept(model, monkeypatch):
    monkeypatch.setattr(escn_graphs, "_MAX_RECORDINGS", 1)
    recorder, run = Recorder(), list(frames(6, model))
    recorded = recordings(model, run[0], recorder)
    for data in [*run, *run]:
        edges = edges_of(data)
        assert_same(model, data, (recorded.features(edges), edges.vectors))
    assert len(recorded._found) == 1
    monkeypatch.setattr(escn_graphs, "MAX_EDGES", 10)
    count = len(recorder.shapes)
    recorded.features(edges_of(run[0]))
    assert len(recorder.shapes) == count


def test_calls_that_overlap_get_their_own_gradients(model):
    data = next(frames(1, model))
    recorded = recordings(model, data, Recorder())
    recorded.features(edges_of(data))
    moved = from_ase(molecule("CH3CH2OH"), dataset="default").with_edges(model.cutoff)
    moved.pos = moved.pos * 1.01
    pending = []
    for own in (data, moved, data):
        edges = edges_of(own)
        pending.append((own, (recorded.features(edges), edges.vectors)))
    for own, found in pending:
        assert_same(model, own, found)


def test_nothing_is_recorded_without_gradients(model):
    data, recorder = next(frames(1, model)), Recorder()
    recorded = recordings(model, data, recorder)
    for _ in range(3):
        with torch.no_grad():
            recorded.features(edges_of(data))
    assert recorder.shapes == []


def test_second_derivatives_are_refused(model):
    data = next(frames(1, model))
    recorded = recordings(model, data, Recorder())
    recorded.features(edges_of(data))
    edges = edges_of(data)
    scalars = recorded.features(edges).scalars
    with pytest.raises(ConfigError, match="first derivatives only"):
        torch.autograd.grad(scalars.sum(), edges.vectors, create_graph=True)


def test_a_failed_recording_leaves_the_plain_computation_and_a_reason(model):
    def fail(function, examples):
        raise RuntimeError("operation not permitted when stream is capturing\ndetails")

    data = next(frames(1, model))
    recorded = recordings(model, data, fail)
    recorded.features(edges_of(data))
    with pytest.warns(UserWarning, match="CUDA graphs are not used for small systems: operation"):
        recorded.features(edges_of(data))
    edges = edges_of(data)
    assert_same(model, data, (recorded.features(edges), edges.vectors))


@pytest.mark.parametrize("factor", [1.001, float("nan")])
def test_a_recording_that_differs_is_not_used(model, factor):
    def wrong(function, examples):
        return lambda *inputs: tuple(factor * x for x in function(*inputs))

    data = next(frames(1, model))
    recorded = recordings(model, data, wrong)
    recorded.features(edges_of(data))
    with pytest.warns(UserWarning, match="differs from the computation"):
        found = recorded.features(edges_of(data))
    assert isinstance(found, NodeFeatures)
    edges = edges_of(data)
    assert_same(model, data, (recorded.features(edges), edges.vectors))


def test_recording_needs_a_gpu():
    with pytest.raises(ConfigError, match="CUDA device"):
        record(lambda x: (x,), (torch.zeros(2),))
