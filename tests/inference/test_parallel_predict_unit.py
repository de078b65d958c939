"""One structure over two workers on Ray: the same numbers, errors, deaths, and a clean end."""

from __future__ import annotations

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import parallel_cases as cases
import pytest
import torch
from ase.build import molecule

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.core.errors import (
    ConfigError,
    DataError,
    MissingExtraError,
    OutOfDomainError,
    WorkerDiedError,
    WorkerError,
)
from adatom.inference.parallel import ray_cluster
from adatom.inference.parallel.predict_unit import ParallelMLIPPredictUnit
from adatom.inference.parallel.transport import geometry_of, metadata_of
from adatom.inference.predict_unit import MLIPPredictUnit
from toy_backbone import toy_potential

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def one() -> MLIPPredictUnit:
    return MLIPPredictUnit(toy_potential(["default", "other"], rmsd=1.7))


@pytest.fixture(scope="module")
def unit():
    with ParallelMLIPPredictUnit(
        toy_potential(["default", "other"], rmsd=1.7), workers=2, address="local"
    ) as unit:
        yield unit


@pytest.fixture
def pids(unit):
    """Return the workers' processes, and require that they are the same afterwards."""
    before = [place.pid for place in unit.workers]
    yield before
    assert [place.pid for place in unit.workers] == before


def test_two_workers_are_one_and_notice_every_change(unit, one, pids):
    assert len(set(pids)) == 2
    for data in cases.systems():
        cases.require_equal(unit, one, data)
    counted = unit.statistics()
    assert [c["rank"] for c in counted] == [0, 1]
    assert sum(c["own_atoms"] for c in counted) == 16


def test_many_structures_at_once(unit, one, pids):
    atoms = [cases.crystal(), molecule("H2O"), cases.slab(), cases.crystal()]
    found = unit.predict(atoms, task_name="default")
    expected = one.predict(atoms, task_name="default")
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-9, equal_nan=True)


def test_threads_share_a_unit(unit, one, pids):
    atoms = [cases.crystal(), molecule("H2O"), cases.slab(), molecule("CH3OH")] * 2

    def energy(structure):
        return float(unit.predict(structure, ["energy"], task_name="default")["energy"][0])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(energy, atoms))
    expected = one.predict(atoms, ["energy"], task_name="default")["energy"].tolist()
    assert found == pytest.approx(expected, abs=1e-9)


def test_calculator(unit, one, pids):
    atoms, other = cases.crystal(), cases.crystal()
    atoms.calc = MLIPCalculator(unit, "default")
    other.calc = MLIPCalculator(one, "default")
    for _ in range(3):
        assert atoms.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=1e-9)
        assert atoms.get_forces() == pytest.approx(other.get_forces(), abs=1e-9)
        assert atoms.get_stress() == pytest.approx(other.get_stress(), abs=1e-10)
        for structure in (atoms, other):
            structure.rattle(0.3, seed=4)
            structure.set_cell(structure.cell * 1.02, scale_atoms=True)


def test_bad_input_is_named_and_the_workers_live(unit, one, pids):
    gold = cases.crystal()
    gold.numbers[3] = 79
    for structure in (gold, [cases.crystal(), gold]):
        with pytest.raises(OutOfDomainError, match="Au") as error:
            unit.predict(structure, task_name="default")
        assert "ray" not in str(error.value).lower()
    bad = next(cases.systems())
    bad.pos[0, 0] = float("nan")
    with pytest.raises(DataError):
        unit.predict(bad)
    with pytest.raises(DataError, match=r"The edges of structure .* are given"):
        unit.predict(next(cases.systems()).with_edges(4.0))
    cases.require_equal(unit, one, next(cases.systems()))


def test_atoms_on_top_of_each_other(unit, pids):
    twice = next(cases.systems())
    twice = replace(twice, sid=["twice"], pos=twice.pos[:1].expand_as(twice.pos).clone())
    with pytest.raises(DataError, match="'twice' has atoms 0 and 1"):
        unit.predict(twice)


def test_a_worker_compares_what_it_is_given(unit, one, pids):
    data = next(cases.systems())
    metadata, geometry = metadata_of(data), geometry_of(data)
    with pytest.raises(WorkerError, match="fingerprint"):
        unit._workers._call("predict", ("0" * 32, metadata, geometry, ("energy",)), "testing")


def test_what_cannot_be_spread_is_refused(unit):
    with pytest.raises(ConfigError, match="several workers"):
        unit.add_output("uncertainty", None)
    with pytest.raises(ConfigError, match="cuda:1"):
        ParallelMLIPPredictUnit(unit.potential, workers=2, device="cuda:1")
    with pytest.raises(ConfigError, match="GPUs"):
        ParallelMLIPPredictUnit(unit.potential, workers=64, device="cuda")
    for workers in (0, -1, 1.5, True, "2"):
        with pytest.raises(ConfigError, match="workers is"):
            ParallelMLIPPredictUnit(unit.potential, workers=workers)
    for seconds in (0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="max_silence is"):
            ParallelMLIPPredictUnit(unit.potential, workers=2, max_silence=seconds)


def test_explain_names_workers(unit, pids):
    text = unit.explain(next(cases.systems()))
    assert all(f"process {pid}" in text for pid in pids)
    assert "own_atoms" in text


def test_without_ray_one_sentence_says_how_to_get_it(monkeypatch, one):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'adatom\[ray\]'"):
        ParallelMLIPPredictUnit(one.potential, workers=2)


def test_a_killed_worker_is_named_and_all_start_again(unit, one):
    before = unit.workers
    os.kill(before[1].pid, signal.SIGKILL)
    start = time.monotonic()
    for _ in range(2):
        with pytest.raises(WorkerDiedError, match=r"restart\(\)") as error:
            unit.predict(next(cases.systems()))
        assert f"Worker 1 of 2 (node {before[1].node}, process {before[1].pid})" in str(error.value)
        assert "killed" in str(error.value)
    assert time.monotonic() - start < 10
    assert unit.workers == []
    unit.restart()
    assert not {place.pid for place in unit.workers} & {place.pid for place in before}
    cases.require_equal(unit, one, next(cases.systems()))


def test_the_end(unit):
    """Last: the workers and the cluster end, the folder is gone."""
    places = unit.workers
    folder = ray_cluster._shared.guardian.folder
    assert folder.is_dir()
    unit.close()
    unit.close()
    assert not ray.is_initialized()
    assert not folder.exists()
    end = time.monotonic() + 15
    while (left := [p for p in places if Path(f"/proc/{p.pid}").exists()]) and (
        time.monotonic() < end
    ):
        time.sleep(0.1)
    assert left == []
    for use in (unit.restart, unit.statistics, lambda: unit.predict(next(cases.systems()))):
        with pytest.raises(ConfigError, match=r"close\(\)"):
            use()
