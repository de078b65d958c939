"""Workers that share a system find what one finds alone; here they are threads."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import shared_systems as shared
import torch
from ase.build import molecule

from adatom.core.errors import ConfigError, GraphError, OutOfDomainError, UnknownNameError
from adatom.data.atomic_data import collate
from adatom.graph.thread_links import run_workers
from adatom.inference.engine import KEPT_BYTES, InferenceWarning
from adatom.inference.parallel import rank_engine
from adatom.inference.verification import Agreement
from adatom.models.direct_heads import ForceHead, StressHead
from adatom.models.escn_md import eSCNMDBackbone
from adatom.models.heads import Heads
from adatom.tasks.potential import Potential
from toy_backbone import ToyBackbone, ToyHead

MODELS = ("toy", "gcn", "egnn", "gaanet", "dimenet", "escn_md", "uma", "uma-counted")
SETTINGS = {
    "merged": {"merge_mole": True, "compile": False},
    "tiled, nothing kept": {
        "merge_mole": False,
        "compile": False,
        "activation_checkpointing": True,
    },
    "compiled": {"merge_mole": True},
    "compiled, nothing kept": {"activation_checkpointing": True, "torch_num_threads": 2},
    "general": shared.PLAIN,
}


def predict(potential, settings, data, workers, properties=shared.PROPERTIES, **options):
    """Return what the workers find, and their statistics."""

    def work(links):
        worker = shared.engine(potential, settings, links, **options)
        return worker.predict(data, properties), worker.statistics()

    results = run_workers(workers, work)
    assert all(out == {} for out, _ in results[1:])
    return results[0][0], [statistics for _, statistics in results]


@pytest.mark.parametrize("name", MODELS)
def test_any_number_of_workers_finds_the_same(name):
    potential = shared.make(name)
    plain = shared.alone(potential)
    workers = dict(zip(shared.SYSTEMS, (3, 2, 4, 2), strict=True))
    for case, make in shared.SYSTEMS.items():
        data = shared.data_of(make())
        expected = plain.predict(data, shared.PROPERTIES)
        found, _ = predict(potential, "default", data, workers[case])
        shared.require_equal(found, expected)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("workers", [2, 4])
def test_experts_and_modes_of_execution(settings, workers):
    potential = shared.make("uma")
    data = shared.data_of(shared.crystal())
    expected = shared.alone(potential).predict(data, shared.PROPERTIES)
    found, statistics = predict(potential, SETTINGS[settings], data, workers)
    shared.require_equal(found, expected)
    mode = settings.split(",")[0]
    # Where there is no compiler, tiles take the place of the kernel.
    modes = {"merged": {"tiled"}, "compiled": {"compiled", "tiled"}}.get(mode, {mode})
    assert {s.mode for s in statistics} <= modes


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_keep_together_what_one_keeps_for_the_backward_pass(workers):
    potential = shared.make("escn_md")
    data = shared.data_of(shared.crystal())

    def kept(settings):
        def work(links):
            worker = shared.engine(potential, settings, links)
            worker.predict(data, ("energy",))
            return worker._engine.ready(data, None).backbone.execution.kept_bytes

        return run_workers(workers, work)

    assert kept({}) == [KEPT_BYTES // workers] * workers
    assert kept({"activation_checkpointing": True}) == [0] * workers


@pytest.mark.parametrize("name", ["egnn", "escn_md"])
def test_all_atoms_by_index_is_the_simple_twin(name):
    potential = shared.make(name)
    data = shared.data_of(shared.slab())
    found, statistics = predict(potential, "default", data, 3, partition="index")
    shared.require_equal(found, shared.alone(potential).predict(data, shared.PROPERTIES))
    assert all(s.own_atoms + s.halo_atoms == data.num_atoms for s in statistics)


def test_workers_without_atoms_edges_or_boundary():
    potential = shared.make("escn_md")
    water = shared.data_of(molecule("H2O"))
    found, statistics = predict(potential, "default", water, 5)
    shared.require_equal(found, shared.alone(potential).predict(water, shared.PROPERTIES))
    assert sorted(s.own_atoms for s in statistics) == [0, 0, 1, 1, 1]
    _, statistics = predict(potential, "default", shared.data_of(shared.apart()), 2)
    assert [s.halo_atoms for s in statistics] == [0, 0]


def test_all_that_may_change_between_calls_is_honoured():
    potential = shared.make("uma")
    plain = shared.alone(potential)
    first = shared.crystal()
    other = first.copy()
    other.numbers[:] = 29
    charged = first.copy()
    charged.info |= {"charge": 1, "spin": 2}
    flat = first.copy()
    flat.pbc = (True, False, True)
    moved = first.copy()
    moved.rattle(0.02, seed=9)
    strained = first.copy()
    strained.set_cell(first.cell * 1.03, scale_atoms=True)
    changes = [first, other, charged, flat, moved, strained, shared.ethanol(), first]
    series = [shared.data_of(atoms) for atoms in changes]
    series.append(shared.data_of(first, "omol"))

    def work(links):
        worker = shared.engine(potential, SETTINGS["merged"], links)
        return [worker.predict(data, ("energy", "forces", "stress")) for data in series]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InferenceWarning)
        found = run_workers(3, work)[0]
    for data, out in zip(series, found, strict=True):
        shared.require_equal(out, plain.predict(data, ("energy", "forces", "stress")))


def test_a_batch_is_computed_system_by_system():
    potential = shared.make("escn_md")
    batch = collate([shared.data_of(make()) for make in shared.SYSTEMS.values()])
    expected = shared.alone(potential).predict(batch, shared.PROPERTIES)
    found, _ = predict(potential, "default", batch, 2)
    shared.require_equal(found, expected)


def test_a_hessian_is_computed_by_one():
    potential = shared.make("egnn")
    water = shared.data_of(molecule("H2O"))
    expected = shared.alone(potential).predict(water, ["hessian", "energy"])
    found, _ = predict(potential, "default", water, 3, ("hessian", "energy"))
    shared.require_equal(found, expected)


def test_heads_that_predict_forces_and_stress_directly():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = {
            "energy": eSCNMDBackbone(**shared.ESCN).default_head(),
            "forces": ForceHead(8),
            "stress": StressHead(8, 8),
        }
        heads = {
            name: {
                "class_path": f"{type(head).__module__}.{type(head).__qualname__}",
                "init_args": head.init_args,
            }
            for name, head in made.items()
        }
        potential = shared.potential_of(eSCNMDBackbone(**shared.ESCN), Heads(heads))
    data = shared.data_of(shared.crystal())
    names = ("energy", "forces", "stress")
    found, _ = predict(potential, "default", data, 3, names)
    shared.require_equal(found, shared.alone(potential).predict(data, names))


def test_each_worker_has_its_share_and_sends_its_boundary():
    potential = shared.make("escn_md")
    atoms = shared.crystal() * (8, 1, 1)
    data = shared.data_of(atoms)
    _, whole = predict(potential, "default", data, 1)
    _, parts = predict(potential, "default", data, 4)
    assert sum(p.own_atoms for p in parts) == len(atoms)
    assert sum(p.edges for p in parts) == whole[0].edges
    assert max(p.edges for p in parts) < 1.1 * whole[0].edges / 4
    assert max(p.halo_atoms for p in parts) < len(atoms) / 3
    # Two layers, there and back: nine coefficients of eight channels in float64 per atom.
    row = 9 * 8 * 8
    features = [4 * row * p.halo_atoms for p in parts]
    for part, bytes_of_features in zip(parts, features, strict=True):
        assert bytes_of_features < part.sent_bytes < 1.5 * bytes_of_features + 20_000


def test_float32_agrees_to_its_precision():
    potential = shared.make("uma").float()
    data = shared.data_of(shared.crystal())
    expected = shared.alone(potential).predict(data, ("energy", "forces"))
    found, _ = predict(potential, "turbo", data, 3, ("energy", "forces"))
    assert found["forces"].dtype == torch.float32
    torch.testing.assert_close(found["energy"], expected["energy"], rtol=0, atol=1e-4)
    torch.testing.assert_close(found["forces"], expected["forces"], rtol=0, atol=1e-4)


def test_what_cannot_be_shared_is_refused():
    network = ToyBackbone()
    network.uses_positions = True
    potential = shared.potential_of(network, ToyHead())
    with pytest.raises(ConfigError, match="takes positions and cell of a whole system"):
        run_workers(2, lambda links: shared.engine(potential, "default", links))


def test_external_edges_unknown_elements_and_properties_are_refused():
    potential = shared.make("toy")
    data = shared.data_of(shared.crystal())
    given = data.with_edges(potential.cutoff)
    with pytest.raises(ConfigError, match="external_graph_gen"):
        predict(potential, {"external_graph_gen": True}, given, 2)
    with pytest.raises(UnknownNameError, match="did you mean 'forces'"):
        predict(potential, "default", data, 2, ("force",))
    strange = replace(data, atomic_numbers=torch.full_like(data.atomic_numbers, 92))
    with pytest.raises(OutOfDomainError, match="U"):
        predict(potential, "default", strange, 2)


def test_workers_that_do_not_agree_with_one_are_not_trusted(monkeypatch):
    monkeypatch.setattr(rank_engine, "compare", lambda *_: Agreement(False, "forces 1.0e-01"))
    with pytest.raises(GraphError, match=r"2 workers together do not find .*forces 1\.0e-01"):
        predict(shared.make("egnn"), "default", shared.data_of(shared.slab()), 2)


@pytest.mark.parametrize("calls", [24, 29])
def test_a_worker_that_fails_in_the_middle_of_a_kernel_ends_all(calls):
    potential = shared.make("uma")
    data = shared.data_of(shared.slab())

    def work(links):
        exchange = links.exchange

        def failing(*arguments):
            if links.num_calls >= calls:
                raise ValueError("the cable broke")
            return exchange(*arguments)

        if links.rank == 1:
            links.exchange = failing
        worker = shared.engine(potential, "turbo", links)
        # The comparison, then the system itself.
        try:
            return worker.predict(data, ("energy", "forces"))
        finally:
            if links.rank == 1:
                assert links.num_calls >= calls

    with pytest.raises((ValueError, GraphError), match="the cable broke"):
        run_workers(2, work)


def test_workers_that_chose_different_ways_stop():
    potential = shared.make("escn_md")
    data = shared.data_of(shared.slab())

    def work(links):
        mode = "general" if links.rank else "tiled"
        worker = shared.engine(potential, {"execution_mode": mode, "compile": False}, links)
        return worker.predict(data, ("energy",))

    with pytest.raises(GraphError, match="computes in another way"):
        run_workers(2, work)


def test_the_potential_is_left_alone():
    potential = shared.make("escn_md").train()
    assert isinstance(potential, Potential)
    predict(potential, "default", shared.data_of(shared.slab()), 2)
    assert potential.training
    assert all(p.requires_grad for p in potential.parameters())
