"""Many simulations in threads of one process, their predictions computed together."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.core.errors import ConfigError, DataError, OutOfDomainError
from adatom.inference.batcher import InferenceBatcher
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.inference.serving.errors import ClosedError
from toy_backbone import toy_potential

NAMES = ("H2O", "CH4", "CO2", "SiH4")


@pytest.fixture(scope="module")
def unit():
    # ASE reads its molecules at the first call, which several threads must not make at once.
    molecule(NAMES[0])
    return MLIPPredictUnit(toy_potential())


def start(i):
    atoms = molecule(NAMES[i % 4]) if i % 5 else bulk("Cu", a=3.7) * (1, 1, 2)
    atoms.rattle(0.1, seed=i)
    return atoms


def relaxed(unit, i):
    atoms = start(i)
    atoms.calc = MLIPCalculator(unit)
    # They end at different times.
    FIRE(atoms, logfile=None).run(fmax=0.05, steps=3 + 2 * i)
    return atoms.positions


def test_relaxations_go_the_way_they_go_alone(unit):
    with InferenceBatcher(unit, threads=8) as batcher:
        found = list(batcher.map(lambda i: relaxed(batcher.unit, i), range(12)))
        counters = batcher._batcher._counters
        assert counters.total("batches") < 0.7 * counters.total("structures")
    for i, positions in enumerate(found):
        np.testing.assert_allclose(positions, relaxed(unit, i), rtol=0, atol=1e-8)


def test_dynamics_go_the_way_they_go_alone(unit):
    def run(unit, i):
        atoms = start(5 * i)
        atoms.calc = MLIPCalculator(unit)
        atoms.set_velocities(np.random.default_rng(i).normal(size=(len(atoms), 3), scale=0.01))
        VelocityVerlet(atoms, units.fs).run(5)
        return atoms.get_total_energy()

    with InferenceBatcher(unit, threads=4) as batcher:
        found = list(batcher.map(lambda i: run(batcher.unit, i), range(4)))
    assert found == pytest.approx([run(unit, i) for i in range(4)], abs=1e-9)


def test_an_error_stays_in_its_thread(unit):
    def energy(i):
        atoms = bulk("U", "fcc", a=4.0) if i == 3 else start(i)
        if i == 4:
            atoms.positions[:] = np.nan
        atoms.calc = MLIPCalculator(batcher.unit)
        return atoms.get_potential_energy()

    with InferenceBatcher(unit, threads=8) as batcher:
        futures = [batcher.executor.submit(energy, i) for i in range(8)]
        errors = {i: future.exception(20) for i, future in enumerate(futures)}
    assert {i for i, error in errors.items() if error} == {3, 4}
    assert isinstance(errors[3], OutOfDomainError)
    assert isinstance(errors[4], DataError)


def test_the_unit_is_used_like_any_other(unit):
    systems = [start(i) for i in range(10)]
    with InferenceBatcher(unit) as batcher:
        found, expected = batcher.unit.predict(systems), unit.predict(systems)
        one = batcher.unit.predict(systems[1], ["energy"])
        singles = list(batcher.unit.iter_predict(systems))
        with pytest.raises(DataError, match="no structure to predict"):
            batcher.unit.predict([])
    assert found.sids == expected.sids
    assert found.absent == expected.absent
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-11, equal_nan=True)
    assert set(one) == {"energy"}
    assert [part.sids[0] for part in singles] == expected.sids


def test_who_asks_alone_computes_itself(unit, monkeypatch):
    run, threads = unit.runner.run, []

    def noted(batch, names):
        threads.append(threading.current_thread())
        return run(batch, names)

    monkeypatch.setattr(unit.runner, "run", noted)
    with InferenceBatcher(unit) as batcher:
        for i in (1, 2, 3):
            found = batcher.unit.predict(start(i))
            assert float(found["energy"]) == float(unit.predict(start(i))["energy"])
        assert set(threads) == {threading.current_thread()}
        with pytest.raises(OutOfDomainError):
            batcher.unit.predict(bulk("U", "fcc", a=4.0))
    with pytest.raises(ClosedError):
        batcher.unit.predict(start(1))


def test_an_error_in_the_block_ends_it(unit):
    before = threading.active_count()

    def fail():
        with InferenceBatcher(unit, threads=2) as batcher:
            batcher.executor.submit(relaxed, batcher.unit, 1)
            raise KeyError("the user's own")

    with pytest.raises(KeyError, match="own"):
        fail()
    assert threading.active_count() == before
    with pytest.raises(ConfigError, match="threads is 0"):
        InferenceBatcher(unit, threads=0)
    with pytest.raises(ConfigError, match="together with a predict unit"):
        InferenceBatcher(unit, device="cpu")
