"""The batcher: together, but each on its own."""

from __future__ import annotations

import random
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
import torch
from ase.build import bulk, molecule
from limited_memory import Poisoned, short_of_memory, unit_with

from adatom.core.errors import (
    ConfigError,
    DataError,
    NonFiniteError,
    OutOfDomainError,
    OutOfMemoryError,
    UnknownNameError,
)
from adatom.data.ase_convert import from_ase
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.inference.serving.batcher import Batcher
from adatom.inference.serving.counters import Counters
from adatom.inference.serving.errors import BusyError, ClosedError, ServiceError
from adatom.inference.serving.models import ServedModels, version_of
from toy_backbone import toy_potential

NAMES = ("H2O", "CH4", "CO2", "C6H6", "SiH4")


def structure(i):
    atoms = molecule(NAMES[i % 5]) if i % 7 else bulk("Cu", a=3.7) * (1 + i % 2, 1, 1)
    atoms.rattle(0.05, seed=i)
    return from_ase(atoms, sid=f"s{i}")


@pytest.fixture
def batcher(toy_unit):
    made = Batcher(toy_unit, counters=Counters())
    yield made
    made.close()


class Gate:
    """Holds a batcher's unit at its first batch until it is opened."""

    def __init__(self, unit, monkeypatch):
        self.reached, self.opened = threading.Event(), threading.Event()
        run = unit.runner.run
        self.batches = []

        def gated(batch, names):
            self.batches.append([item.system.sid[0] for item in batch])
            self.reached.set()
            assert self.opened.wait(20)
            return run(batch, names)

        monkeypatch.setattr(unit.runner, "run", gated)


@pytest.fixture
def gate(toy_unit, monkeypatch):
    made = Gate(toy_unit, monkeypatch)
    yield made
    made.opened.set()


def require_equal(found, expected):
    assert set(found) == set(expected)
    assert found.sids == expected.sids
    assert found.absent == expected.absent
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-11)


def test_threads_get_what_they_would_get_alone(batcher, toy_unit):
    systems = [structure(i) for i in range(30)]
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda system: batcher.submit(system).result(), systems))
    for prediction, system in zip(found, systems, strict=True):
        require_equal(prediction, toy_unit.predict(system))
    counters = batcher._counters
    assert counters.total("structures", outcome="ok") == 30
    assert counters.total("batches") < 30


def test_what_waits_during_a_batch_is_computed_together(batcher, gate):
    first = batcher.submit(structure(1))
    assert gate.reached.wait(20)
    others = [batcher.submit(structure(1)) for _ in range(9)]
    gate.opened.set()
    for future in (first, *others):
        future.result(20)
    assert [len(batch) for batch in gate.batches] == [1, 9]


def test_each_gets_the_properties_it_asked_for(batcher, gate):
    batcher.submit(structure(1))
    assert gate.reached.wait(20)
    system = structure(7)  # a crystal
    asked = [("energy",), ("forces",), ("energy", "forces", "stress"), None, ("hessian",)]
    futures = [batcher.submit(system, names) for names in asked]
    gate.opened.set()
    found = [set(future.result(20)) for future in futures]
    defaults = {"energy", "forces", "stress", "energies"}
    assert found == [{"energy"}, {"forces"}, {"energy", "forces", "stress"}, defaults, {"hessian"}]


def test_a_bad_structure_fails_alone(monkeypatch):
    unit = unit_with(Poisoned())
    batcher, gate = Batcher(unit), Gate(unit, monkeypatch)
    batcher.submit(structure(1))
    assert gate.reached.wait(20)
    futures = [batcher.submit(structure(i)) for i in range(20)]
    bad = batcher.submit(from_ase(bulk("Ar", a=5.3), sid="poisoned"))
    unseen = batcher.submit(from_ase(molecule("NH3"), sid="unseen"))
    futures += [batcher.submit(structure(i)) for i in range(20, 40)]
    gate.opened.set()
    with pytest.raises(NonFiniteError, match="'poisoned' is NaN or infinite"):
        bad.result(20)
    with pytest.raises(OutOfDomainError, match="'unseen' has N, which"):
        unseen.result(20)
    found = [future.result(20) for future in futures]
    # The culprit is found by halves, not by computing every structure alone.
    assert len(gate.batches) < 20
    for i, prediction in enumerate(found):
        require_equal(prediction, unit.predict(structure(i)))
    batcher.close()


def test_broken_tensors_are_the_senders_own_error(batcher):
    system = structure(1)
    system.pos[0, 0] = torch.nan
    with pytest.raises(DataError, match="'s1' has NaN"):
        batcher.submit(system).result(20)
    with pytest.raises(UnknownNameError, match="did you mean 'forces'"):
        batcher.submit(structure(1), ["force"])


def test_memory_that_runs_out_splits_batches():
    unit, counters = short_of_memory(60), Counters()
    batcher = Batcher(unit, counters=counters)
    expected = MLIPPredictUnit(toy_potential())
    systems = [structure(i) for i in range(50) if i % 5 != 3 and i % 7]
    large = from_ase(bulk("Cu", a=3.7, cubic=True) * 2, sid="large")
    futures = batcher.submit_all([*systems, large])
    for future, system in zip(futures, systems, strict=False):
        require_equal(future.result(60), expected.predict(system))
    with pytest.raises(OutOfMemoryError, match="'large'"):
        futures[-1].result(60)
    batcher.close()
    assert counters.total("memory_splits") >= 1
    assert counters.total("structures", outcome="OutOfMemoryError") == 1


def test_a_cancelled_request_is_not_computed_and_harms_nobody(batcher, gate):
    batcher.submit(structure(1))
    assert gate.reached.wait(20)
    futures = [batcher.submit(structure(i)) for i in (2, 4, 6)]
    assert futures[1].cancel()
    gate.opened.set()
    assert futures[0].result(20).sids == ["s2"]
    assert futures[2].result(20).sids == ["s6"]
    with pytest.raises(CancelledError):
        futures[1].result(20)
    assert "s4" not in [sid for batch in gate.batches for sid in batch]


def test_too_much_is_refused_and_says_when_to_come_again(toy_unit, gate):
    batcher = Batcher(toy_unit, max_waiting=3)
    first = batcher.submit(structure(1))
    assert gate.reached.wait(20)
    futures = batcher.submit_all([structure(i) for i in (2, 3)], wait=False)
    with pytest.raises(BusyError, match="2 structures are waiting, of 3 at most") as caught:
        batcher.submit_all([structure(4), structure(5)], wait=False)
    assert 1.0 <= caught.value.retry_after <= 60.0
    with pytest.raises(ConfigError, match="4 structures were sent at once"):
        batcher.submit_all([structure(i) for i in range(4)])
    # One more fits; who is ready to wait, waits.
    futures += batcher.submit_all([structure(6)], wait=False)
    waiting = ThreadPoolExecutor(1)
    patient = waiting.submit(batcher.submit, structure(8))
    assert not patient.done()
    gate.opened.set()
    for future in (first, *futures, patient.result(20)):
        assert future.result(20).natoms
    waiting.shutdown()
    batcher.close()


def test_closing_computes_what_was_taken(toy_unit, gate):
    batcher = Batcher(toy_unit)
    futures = batcher.submit_all([structure(i) for i in range(10)])
    closing = threading.Thread(target=batcher.close)
    closing.start()
    gate.opened.set()
    closing.join(20)
    assert [future.result(0).sids[0] for future in futures] == [f"s{i}" for i in range(10)]
    with pytest.raises(ClosedError):
        batcher.submit(structure(1))


def test_a_rare_kind_does_not_wait_forever(toy_unit, monkeypatch):
    """Energies are a group of their own; forces, always asked for again, do not starve them."""
    batcher = Batcher(toy_unit)
    stop = threading.Event()

    def busy(i):
        while not stop.is_set():
            batcher.submit(structure(i), ["forces"]).result(20)

    threads = [threading.Thread(target=busy, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    assert "energy" in batcher.submit(structure(3), ["energy"]).result(20)
    stop.set()
    for thread in threads:
        thread.join(20)
    batcher.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_batcher_that_breaks_leaves_nobody_waiting(toy_unit, monkeypatch):
    batcher = Batcher(toy_unit)

    def broken(batch, seconds, splits):
        raise KeyError("a defect of the batcher itself")

    gate = Gate(toy_unit, monkeypatch)
    monkeypatch.setattr(batcher, "_count", broken)
    done = batcher.submit(structure(1))
    assert gate.reached.wait(20)
    left = batcher.submit(structure(2))
    gate.opened.set()
    assert done.result(20).sids == ["s1"]
    with pytest.raises(ServiceError, match="ended by an error of its own"):
        left.result(20)
    batcher._worker.join(20)
    assert not batcher.alive


def test_no_request_is_lost_when_a_model_is_replaced_under_load():
    potentials = [toy_potential(seed=seed) for seed in (0, 1)]
    units = [MLIPPredictUnit(potential) for potential in potentials]
    counters = Counters()
    models = ServedModels(counters)
    versions = [version_of(unit) for unit in units]
    assert models.put("toy", units[0]).version == versions[0] != versions[1]
    expected = {
        version: [float(unit.predict(structure(i))["energy"]) for i in range(10)]
        for version, unit in zip(versions, units, strict=True)
    }
    stop, seen, wrong = threading.Event(), set(), []

    def client(seed):
        draw = random.Random(seed)
        while not stop.is_set():
            i = draw.randrange(10)
            model, futures = models.submit(models.get("toy"), [structure(i)], ["energy"])
            energy = float(futures[0].result(20)["energy"])
            seen.add(model.version)
            if abs(energy - expected[model.version][i]) > 1e-10:
                wrong.append(i)

    with ThreadPoolExecutor(6) as pool:
        clients = [pool.submit(client, seed) for seed in range(6)]
        for turn in range(6):
            models.put("toy", units[(turn + 1) % 2])
        stop.set()
        for done in clients:
            done.result(30)
    models.close()
    assert wrong == []
    assert seen == set(versions)
    assert counters.total("swaps") == 6
    assert counters.total("structures") == counters.total("structures", outcome="ok") > 0
