"""Recorded and compiled backbones: keys, padding and fallback; what needs no GPU."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from ase.build import bulk, molecule
from test_buckets import network

from adatom.core.errors import ConfigError
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import collate
from adatom.inference.buckets import bucket
from adatom.inference.compiled import CompiledBackbone
from adatom.inference.cuda_graphs import GraphedBackbone, record
from adatom.models.base import Execution
from adatom.tasks.potential import Potential
from toy_backbone import toy_potential


class Recorder:
    """Like a CUDA graph: computes from memory of its own whatever is copied there."""

    def __init__(self):
        self.shapes = []

    def __call__(self, function, examples):
        self.shapes.append(len(examples[1]))
        fixed = [example.detach().clone() for example in examples]

        def replay(*arguments):
            for mine, given in zip(fixed, arguments, strict=True):
                assert mine.shape == given.shape
                mine.copy_(given.detach())
            vectors = arguments[0]
            return function(fixed[0] + (vectors - vectors.detach()), *fixed[1:])

        return replay


def graphed(potential, recorder, **options):
    backbone = GraphedBackbone(potential.backbone, recorder=recorder, **options)
    return Potential(backbone, potential.head, potential.tasks, potential.domains)


def steps(count):
    """Snapshots of a moving molecule, with numbers of edges that change."""
    atoms = molecule("CH3CH2OH")
    for step in range(count):
        moved = atoms.copy()
        moved.rattle(0.1 * step, seed=step)
        yield from_ase(moved, dataset="default").with_edges(4.0)


def assert_same(potential, other, data, tolerance=1e-12):
    properties = ("energy", "forces", "virials")
    with torch.no_grad():
        expected = potential(data, properties)
        found = other(data, properties)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("make", [toy_potential, network])
def test_one_recording_serves_a_run(make):
    potential, recorder = make().eval().requires_grad_(False), Recorder()
    other = graphed(copy.deepcopy(potential), recorder)
    sizes = set()
    for data in steps(5):
        sizes.add(data.edges.num_edges)
        assert_same(potential, other, data)
    assert len(recorder.shapes) == len({bucket(size) for size in sizes}) < len(sizes)


def test_another_composition_is_recorded_anew():
    potential, recorder = toy_potential().eval().requires_grad_(False), Recorder()
    other = graphed(copy.deepcopy(potential), recorder)
    systems = [from_ase(molecule(name), dataset="default") for name in ("CO", "O2", "CO")]
    charged = copy.copy(systems[0])
    charged.charge = charged.charge + 1
    for system in (*systems, charged):
        assert_same(potential, other, system.with_edges(4.0))
    assert len(recorder.shapes) == 4


def test_what_does_not_fit_is_computed_as_usual():
    potential, recorder = toy_potential().eval().requires_grad_(False), Recorder()
    other = graphed(copy.deepcopy(potential), recorder, max_atoms=5)
    batch = collate([from_ase(molecule("H2O"), dataset="default")] * 2).with_edges(4.0)
    large = from_ase(bulk("Cu") * (2, 2, 2), dataset="default").with_edges(4.0)
    assert_same(potential, other, batch)
    assert_same(potential, other, large)
    small = from_ase(molecule("H2O"), dataset="default").with_edges(4.0)
    assert other(small, ("hessian",))["hessian"].shape == (9, 9)
    other.backbone.execution = Execution("general")
    assert_same(potential, other, small)
    assert recorder.shapes == []


def test_a_failed_recording_leaves_the_plain_computation_and_a_reason():
    def fail(function, examples):
        raise RuntimeError("operation not permitted when stream is capturing\ndetails")

    potential = toy_potential().eval().requires_grad_(False)
    other = graphed(copy.deepcopy(potential), fail)
    for data in steps(2):
        assert_same(potential, other, data)
    assert other.backbone.reason.endswith("not permitted when stream is capturing")


def test_recording_needs_a_gpu():
    with pytest.raises(ConfigError, match="CUDA device"):
        record(lambda x: (x,), (torch.zeros(2),))


def compiled(potential):
    backbone = CompiledBackbone(potential.backbone)
    return Potential(backbone, potential.head, potential.tasks, potential.domains)


@pytest.mark.slow
def test_one_compilation_serves_all_sizes():
    potential = toy_potential().eval().requires_grad_(False)
    other = compiled(copy.deepcopy(potential))
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own
        for data in (*steps(4), from_ase(bulk("Cu") * (2, 2, 2), dataset="default").with_edges(4)):
            assert_same(potential, other, data, 1e-10)
    assert other.backbone.reason is None
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before <= 2


@pytest.mark.slow
def test_what_cannot_be_compiled_falls_back_with_a_reason():
    potential = network()
    other = compiled(copy.deepcopy(potential))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data in steps(2):
            assert_same(potential, other, data)
    assert other.backbone.reason.startswith("torch.compile failed")


def test_compiled_code_that_differs_is_not_used():
    potential = toy_potential().eval().requires_grad_(False)
    other = compiled(copy.deepcopy(potential))
    plain = other.backbone.backbone
    other.backbone._traced = lambda data, edges: plain(data, edges)._replace(
        scalars=1.001 * plain(data, edges).scalars
    )
    for data in steps(2):
        assert_same(potential, other, data)
    assert "differs from the plain computation" in other.backbone.reason
