"""Merged experts: composition changes, mixed batches and threads never give a wrong number."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from ase.build import bulk, molecule

from adatom.checkpoint.format import load_potential
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import collate
from adatom.inference import engine
from adatom.inference.engine import InferenceWarning
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.inference.settings import PRESETS
from adatom.inference.verification import Agreement
from toy_backbone import toy_potential


@pytest.fixture(scope="module")
def potential(shared):
    path = shared / "reference" / "uma_tiny" / "tiny_uma.pt"
    return load_potential(path, dtype=torch.float64)


@pytest.fixture(scope="module")
def plain(potential):
    return MLIPPredictUnit(potential, "traineval")


def molecule_of(name, *, charge=0, spin=1, dataset="omol", seed=0):
    atoms = molecule(name)
    atoms.rattle(0.05, seed=seed)
    atoms.info |= {"charge": charge, "spin": spin}
    return from_ase(atoms, dataset=dataset)


def agrees(found, expected):
    torch.testing.assert_close(found["energy"], expected["energy"], rtol=0, atol=1e-9)
    torch.testing.assert_close(found["forces"], expected["forces"], rtol=0, atol=1e-9)


CHANGES = (
    molecule_of("CH4"),
    molecule_of("H2O", charge=-1, spin=2),
    molecule_of("H2O", spin=3),
    molecule_of("H2O", spin=0, dataset="omat"),
)


@pytest.mark.parametrize("changed", CHANGES, ids=["formula", "charge", "spin", "dataset"])
def test_another_composition_is_merged_anew_with_one_message(potential, plain, changed):
    unit = MLIPPredictUnit(potential, "turbo")
    water = molecule_of("H2O")
    agrees(unit.predict(water), plain.predict(water))
    assert "Experts are merged for H2O" in unit.explain()
    with pytest.warns(InferenceWarning, match="merged again") as caught:
        agrees(unit.predict(changed), plain.predict(changed))
    assert len(caught) == 1
    assert len(unit._runner.engine._merged) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agrees(unit.predict(changed), plain.predict(changed))
        assert len(unit._runner.engine._merged) == 2
        for system in (water, changed, molecule_of("CO2"), water):
            agrees(unit.predict(system), plain.predict(system))


def test_larger_systems_of_the_same_formula_stay_merged(potential, plain):
    unit = MLIPPredictUnit(potential, "turbo")
    for repeat in ((1, 1, 1), (2, 1, 1), (2, 2, 2)):
        crystal = bulk("NaCl", "rocksalt", a=5.6) * repeat
        crystal.rattle(0.05, seed=1)
        data = from_ase(crystal, dataset="omat")
        agrees(unit.predict(data), plain.predict(data))
    assert len(unit._runner.engine._merged) == 1


def test_a_mixed_batch_takes_the_unmerged_weights_and_the_fast_path_comes_back(potential, plain):
    unit = MLIPPredictUnit(potential, "turbo")
    water = molecule_of("H2O")
    mixed = [water, molecule_of("CH4"), molecule_of("H2O", charge=1, spin=2)]
    unit.predict(water)
    fast = unit._runner.engine._merged.get(*_key(unit, water))
    with pytest.warns(InferenceWarning, match="several compositions") as caught:
        agrees(unit.predict(mixed), plain.predict(mixed))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agrees(unit.predict(collate(mixed)), plain.predict(mixed))
        agrees(unit.predict([water, water]), plain.predict([water, water]))
    assert unit._runner.engine.ready(water, [_key(unit, water)[0]]) is fast


def _key(unit, system):
    return unit._runner.key(system), system


def test_a_first_batch_that_is_mixed_does_not_prevent_merging(potential, plain):
    unit = MLIPPredictUnit(potential, "turbo")
    mixed = [molecule_of("H2O"), molecule_of("CH4")]
    with pytest.warns(InferenceWarning, match="several compositions"):
        agrees(unit.predict(mixed), plain.predict(mixed))
    agrees(unit.predict(mixed[0]), plain.predict(mixed[0]))
    assert "Experts are merged for H2O" in unit.explain()


@pytest.mark.filterwarnings("ignore::adatom.inference.engine.InferenceWarning")
@pytest.mark.parametrize("execution", ["tiled", "compiled"])
def test_parallel_threads_with_other_compositions_are_never_wrong(potential, plain, execution):
    reason = plain.potential.backbone.unavailable(execution)
    if reason is not None:
        pytest.skip(reason)
    names = ("H2O", "CH4", "CO2")
    systems = [
        molecule_of(name, charge=charge, spin=1 + abs(charge))
        for name in names
        for charge in (0, 1)
    ]
    expected = [plain.predict(system) for system in systems]
    unit = MLIPPredictUnit(potential, {"preset": "turbo", "execution_mode": execution})
    start = threading.Barrier(4)

    def work(offset):
        start.wait()
        for step in range(3 * len(systems)):
            # Now and then a system comes several times, so that it is merged.
            i = (offset * 3 + step // 3) % len(systems)
            agrees(unit.predict(systems[i]), expected[i])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert unit._runner.engine.mode == execution
    assert "Experts are merged for" in unit.explain()


def test_merging_that_disagrees_is_not_used(potential, plain, monkeypatch):
    compared = engine.compare

    def distrust(fast, slow, sample):
        if fast.backbone.init_args["num_experts"] == 0:
            return Agreement(False, "energy 1.0e+00")
        return compared(fast, slow, sample)

    monkeypatch.setattr(engine, "compare", distrust)
    unit = MLIPPredictUnit(potential, replace(PRESETS["turbo"], execution_mode="general"))
    water = molecule_of("H2O")
    with pytest.warns(InferenceWarning, match="merged, general"):
        agrees(unit.predict(water), plain.predict(water))
    agrees(unit.predict(water), plain.predict(water))
    assert "Merging is not trusted" in unit.explain()


def test_a_model_without_experts_has_nothing_to_merge():
    unit = MLIPPredictUnit(toy_potential(), "turbo")
    unit.predict([molecule("H2O"), molecule("CO2")])
    assert "nothing to merge" in unit.explain()


def test_merged_weights_do_not_reach_the_given_potential(potential):
    before = {name: value.clone() for name, value in potential.state_dict().items()}
    unit = MLIPPredictUnit(potential, "turbo")
    unit.predict(molecule_of("H2O"))
    assert all(torch.equal(before[name], value) for name, value in potential.state_dict().items())
    assert (
        potential.backbone.execution
        is not unit._runner.engine._merged.get(*_key(unit, molecule_of("H2O"))).backbone.execution
    )
