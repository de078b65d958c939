"""The whole eSCN-MD backbone on Triton kernels, interpreted; run by ../test_escn_device.py."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from torch.utils._python_dispatch import TorchDispatchMode

from adatom.core.errors import ConfigError
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData, collate
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.models.base import Execution, Neighborhood
from adatom.models.energy_head import EnergyHead
from adatom.models.escn_device import DeviceBackbone, PreparedEscn
from adatom.models.escn_md import eSCNMDBackbone
from adatom.tasks.potential import Potential
from recorder import Recorder
from toy_backbone import toy_potential

OPTIONS = [
    {"lmax": 1, "mmax": 1},
    {"lmax": 2, "mmax": 1, "num_experts": 3, "num_layers": 1},
    {"lmax": 1, "mmax": 0, "ff_type": "grid", "grid_resolution": 6, "norm_type": "layer_norm"},
    {"lmax": 1, "mmax": 1, "num_layers": 1, "charge_balanced_channels": [0, 1]},
]


def backbone(**options) -> eSCNMDBackbone:
    torch.manual_seed(0)
    sizes = {"sphere_channels": 3, "hidden_channels": 2, "edge_channels": 4, "cutoff": 3.0}
    model = eSCNMDBackbone(**sizes, num_distance_basis=6, **options).double()
    return model.requires_grad_(False).eval()


def batch() -> AtomicData:
    systems = [from_ase(molecule(name), dataset="default") for name in ("H2O", "CO", "O", "H2O")]
    systems[1].charge = systems[1].charge + 1
    return collate(systems).with_edges(3.0)


def evaluate(compute: Callable, data: AtomicData):
    vectors = data.edges.vectors(data.pos, data.cell).requires_grad_()
    features = compute(Neighborhood(*data.edges.index, vectors, data.edges.counts))
    loss = features.scalars.square().sum() + features.spherical[:, 1:].sin().sum()
    (gradient,) = torch.autograd.grad(loss, vectors)
    return features.spherical.detach(), gradient


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_prepared_equals_the_plain_computation(options):
    model, data = backbone(**options), batch()
    model.execution = Execution("general")
    expected = evaluate(lambda edges: model(data, [edges] * model.num_message_layers), data)
    for execution in (Execution(), Execution(edges_per_tile=4, kept_bytes=0)):
        model.execution = execution
        found = evaluate(PreparedEscn(model, data), data)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-11)


def test_what_cannot_be_prepared_is_refused():
    trained = copy.deepcopy(backbone(num_layers=1)).requires_grad_()
    with pytest.raises(ConfigError, match="frozen"):
        PreparedEscn(trained, batch())
    with pytest.raises(ConfigError, match="gate"):
        PreparedEscn(backbone(num_layers=1, act_type="s2"), batch())


def test_the_backbone_remembers_batches_and_records_single_systems():
    model, recorder = backbone(lmax=1, mmax=1, num_experts=2), Recorder()
    device = DeviceBackbone(model, recorder)
    water, other, *_ = batch().unbatch()
    plain = copy.deepcopy(model)
    plain.execution = Execution("general")
    for data in (water, other, water, batch(), other, water):
        expected = evaluate(lambda edges, own=data: plain(own, [edges] * 3), data)
        found = evaluate(lambda edges, own=data: device.features(model, own, edges), data)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-11)
    assert recorder.shapes == [64, 64]
    charge = water.charge.clone()
    water.charge += 1  # in place, as a caller may
    expected = evaluate(lambda edges: plain(water, [edges] * 3), water)
    found = evaluate(lambda edges: device.features(model, water, edges), water)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-11)
    assert not torch.equal(charge, water.charge)
    model.sphere_embedding.weight.mul_(2)
    assert not device.is_current()
    assert copy.deepcopy(device) is None


def test_predictions_take_the_kernels():
    toy = toy_potential()
    model = backbone(lmax=1, mmax=1, num_layers=1, num_experts=2)
    potential = Potential(model, EnergyHead(3, 3), toy.tasks, toy.domains).double()
    atoms = [molecule("H2O"), molecule("CO")]
    expected = MLIPPredictUnit(potential, "traineval").predict(atoms)
    unit = MLIPPredictUnit(potential, "default")
    found = unit.predict(atoms)
    assert unit._runner.engine.mode == "compiled"
    for name in ("energy", "forces"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-9, rtol=1e-9)


class NothingReadBack(TorchDispatchMode):
    """Fail where an operation would make the host wait for a device."""

    WAITING = ("_local_scalar_dense", "nonzero", "unique", "is_nonzero", "repeat_interleave.Tensor")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(word in str(func) for word in self.WAITING):
            raise AssertionError(f"{func} reads back")
        return func(*args, **(kwargs or {}))


def test_one_tile_reads_nothing_back():
    model, data = backbone(lmax=1, mmax=1, num_layers=1, num_experts=2), batch().unbatch()[0]
    prepared = PreparedEscn(model, data)
    vectors = data.edges.vectors(data.pos, data.cell).requires_grad_()
    edges = Neighborhood(*data.edges.index, vectors, data.edges.counts)
    evaluate(prepared, data)  # tables are made once
    with NothingReadBack():
        features = prepared(edges)
        torch.autograd.grad(features.spherical.square().sum(), vectors)


@pytest.mark.parametrize("workers", [4, 2])
def test_workers_that_share_a_system_equal_one(workers, tmp_path):
    # Processes, because Triton interprets in one thread only.
    script = Path(__file__).with_name("escn_device_worker.py")
    started = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(workers), str(tmp_path / "store")],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(workers)
    ]
    try:
        for process in started:
            _, errors = process.communicate(timeout=900)
            assert process.returncode == 0, errors
    finally:
        for process in started:
            process.kill()
