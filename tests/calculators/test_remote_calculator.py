"""The calculator that asks a service, beside the one that computes itself."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.calculators.remote import RemoteCalculator
from adatom.core.errors import ConfigError, DataError, OutOfDomainError, UnknownNameError
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.inference.serving.client import ServiceClient
from adatom.inference.serving.errors import ServiceError
from toy_backbone import toy_potential

sys.path.insert(0, str(Path(__file__).parents[1] / "inference" / "serving"))

from http_service import serving

PROPERTIES = ("energy", "free_energy", "energies", "forces", "stress", "stresses", "hessian")


@pytest.fixture(scope="module")
def unit():
    return MLIPPredictUnit(toy_potential())


@pytest.fixture(scope="module")
def running(unit):
    with serving({"toy": unit}) as found:
        yield found


def crystal():
    atoms = bulk("Cu", a=3.7) * (1, 2, 1)
    atoms.rattle(0.05, seed=1)
    return atoms


def test_all_properties_are_those_of_the_local_calculator(running, unit):
    remote, local = RemoteCalculator(running.url), MLIPCalculator(unit)
    assert remote.implemented_properties == local.implemented_properties
    atoms = crystal()
    for name in PROPERTIES:
        found, expected = (calc.get_property(name, atoms) for calc in (remote, local))
        assert type(found) is type(expected)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)
    told = remote.todict()
    assert (told["model"], told["version"]) == ("toy", remote.model["version"])


def test_relaxation_and_dynamics_go_the_same_way(running, unit):
    ends = []
    for calc in (RemoteCalculator(running.url), MLIPCalculator(unit)):
        atoms = crystal()
        atoms.calc = calc
        FIRE(atoms, logfile=None).run(fmax=1e-6, steps=5)
        VelocityVerlet(atoms, units.fs).run(5)
        ends.append(atoms.positions)
    np.testing.assert_allclose(*ends, rtol=0, atol=1e-9)


def test_errors_are_those_of_the_local_calculator(running, unit):
    for calc in (RemoteCalculator(running.url), MLIPCalculator(unit)):
        with pytest.raises(OutOfDomainError, match="has U, which this potential never saw"):
            calc.get_property("energy", bulk("U", "fcc", a=4.0))
        broken = crystal()
        broken.positions[0, 0] = np.nan
        with pytest.raises(DataError, match="NaN"):
            calc.get_property("energy", broken)
        with pytest.raises(PropertyNotImplementedError, match="no volume"):
            calc.get_property("stress", molecule("H2O"))
    charged = crystal()
    charged.info["charge"] = 1
    for calc in (RemoteCalculator(running.url, charge=0), MLIPCalculator(unit, charge=0)):
        with pytest.raises(DataError, match="in one place only"):
            calc.get_property("energy", charged)


def test_tasks_and_models_are_chosen_as_for_the_local_calculator(unit):
    several = MLIPPredictUnit(toy_potential(["a", "b"]))
    with serving({"one": unit, "two": several}) as running:
        with pytest.raises(ConfigError, match="several models and none was chosen"):
            RemoteCalculator(running.url)
        with pytest.raises(UnknownNameError, match="did you mean 'one'"):
            RemoteCalculator(running.url, model="oone")
        with pytest.raises(ConfigError, match="several tasks and none was chosen"):
            RemoteCalculator(running.url, model="two")
        with pytest.raises(UnknownNameError, match="Unknown task 'c'"):
            RemoteCalculator(running.url, "c", model="two")
        calc = RemoteCalculator(running.url, "b", model="two")
        expected = MLIPCalculator(several, "b").get_property("energy", crystal())
        assert calc.get_property("energy", crystal()) == pytest.approx(expected, abs=1e-11)


def test_the_token_comes_from_the_environment(unit, monkeypatch):
    with serving({"toy": unit}, token="0123456789abcdef") as running:
        with pytest.raises(ServiceError, match="token is missing or wrong"):
            RemoteCalculator(running.url)
        assert RemoteCalculator(running.url, token="0123456789abcdef").model["name"] == "toy"
        monkeypatch.setenv("ADATOM_TOKEN", "0123456789abcdef")
        assert RemoteCalculator(running.url).model["name"] == "toy"


def test_a_replaced_model_is_not_mixed_into_a_run(unit):
    with serving({"toy": unit}) as running:
        strict, tolerant = (
            RemoteCalculator(running.url, any_version=choice) for choice in (False, True)
        )
        atoms = crystal()
        before = strict.get_property("energy", atoms)
        other = MLIPPredictUnit(toy_potential(seed=1))
        running.service.models.put("toy", other)
        atoms.rattle(0.01, seed=2)
        with pytest.raises(DataError, match="The model 'toy' was replaced"):
            strict.get_property("energy", atoms)
        found = tolerant.get_property("energy", atoms)
        assert found == pytest.approx(MLIPCalculator(other).get_property("energy", atoms))
        assert found != before


def test_a_full_service_is_asked_again(unit, monkeypatch):
    from adatom.inference.serving.errors import BusyError

    with serving({"toy": unit}) as running:
        calc = RemoteCalculator(running.url, patience=30)
        impatient = RemoteCalculator(running.url, patience=0)
        batcher = running.service.models.get("toy").batcher
        submit, refused = batcher.submit_all, []

        def full_twice(systems, properties=None, *, wait=True):
            if len(refused) < 3:
                refused.append(len(systems))
                raise BusyError("Full", retry_after=0.1)
            return submit(systems, properties, wait=wait)

        monkeypatch.setattr(batcher, "submit_all", full_twice)
        with pytest.raises(ServiceError, match="Full"):
            impatient.get_property("energy", crystal())
        expected = MLIPCalculator(unit).get_property("energy", crystal())
        assert calc.get_property("energy", crystal()) == pytest.approx(expected)
        assert len(refused) == 3


def test_a_service_that_is_not_there_is_named():
    with pytest.raises(ServiceError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        RemoteCalculator("http://127.0.0.1:9", patience=0)
    for url in ("127.0.0.1:8000", "ftp://host", "http://"):
        with pytest.raises(ConfigError, match="Expected one like"):
            RemoteCalculator(url)


def test_a_connection_that_the_other_side_closed_is_opened_again(running):
    client = ServiceClient(running.url, patience=0)
    client.models()
    client._own.held.connection.sock.shutdown(2)
    assert client.models()[0]["name"] == "toy"


def test_threads_share_a_client(running, unit):
    client = ServiceClient(running.url)
    expected = MLIPCalculator(unit).get_property("energy", crystal())
    found = []

    def ask():
        found.append(RemoteCalculator(client).get_property("energy", crystal()))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == pytest.approx([expected] * 8)
