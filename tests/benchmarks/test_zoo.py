"""The model zoo: its errors, its baseline, its split, and that nothing is trained twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from adatom.core.errors import ConfigError, UnknownNameError

# The benchmarks are not installed; "pytest" alone does not look into the working directory.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import zoo, zoo_models
from benchmarks.zoo_page import write_page
from benchmarks.zoo_sets import HELD_OUT_PAIRS, ZooSet, pair_of, split_adsorbates


def crystals(count: int, seed: int) -> list[Atoms]:
    """Return rattled crystals of copper and gold with energies and forces of EMT."""
    random = np.random.default_rng(seed)
    frames = []
    for i in range(count):
        atoms = bulk("Cu", a=3.7, cubic=True)
        atoms.numbers[: i % 3] = 79
        atoms.positions += random.normal(scale=0.1, size=(4, 3))
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


@pytest.fixture
def tiny(tmp_path) -> ZooSet:
    for name, count in (("train", 20), ("test", 6)):
        ase.io.write(tmp_path / f"{name}.extxyz", crystals(count, seed=count))
    return ZooSet(
        "s2ef", "Copper", "Rattled.", "emt", "energy", tmp_path / "train.extxyz",
        {"rattled": tmp_path / "test.extxyz"}, {"forces": {"name": "mae"}}, 4, {"cutoff": 4.0},
    )  # fmt: skip


def test_baseline_is_a_linear_fit_without_forces(tiny):
    train, test = crystals(20, seed=20), crystals(6, seed=6)
    counts = [[(a.numbers == z).sum() for z in (29, 79)] for a in train]
    fit, *_ = np.linalg.lstsq(counts, [a.get_potential_energy() for a in train], rcond=None)
    off = [
        abs(a.get_potential_energy() - fit @ [(a.numbers == z).sum() for z in (29, 79)]) / 4
        for a in test
    ]
    forces = np.concatenate([a.get_forces() for a in test])
    found = tiny.baseline(tiny.tests["rattled"])
    assert found["energy_mae"] == pytest.approx(1e3 * np.mean(off), rel=1e-6)
    assert found["forces_mae"] == pytest.approx(1e3 * np.abs(forces).mean(), rel=1e-6)
    assert found["forces_cosine"] == 0.0


def test_errors_count_structures_within_the_thresholds(tiny):
    systems = tiny.read(tiny.tests["rattled"])
    energies = tiny.energies(systems) + np.array([0.01, -0.01, 0.03, 0, 0, 0])
    forces = [system.labels["forces"].numpy().copy() for system in systems]
    forces[4][0, 0] += 0.031
    forces[5][0, 0] += 0.029
    found = tiny.errors(systems, energies, forces)
    assert found["energy_within"] == pytest.approx(5 / 6)
    assert found["both_within"] == pytest.approx(4 / 6)
    assert found["energy_mae"] == pytest.approx(1e3 * 0.05 / 4 / 6)
    assert found["forces_mae"] == pytest.approx(1e3 * 0.06 / (6 * 12))
    assert found["forces_cosine"] == pytest.approx(1.0, abs=1e-2)


def surfaces() -> list[Atoms]:
    """Return what the file of adsorption energies has, with as many structures."""
    frames = []
    for metal in ("Ag", "Au", "Cu", "Ir", "Pd", "Pt", "Rh"):
        for adsorbate in ("Br", "C", "Cl", "F", "H", "N", "O", "S"):
            for i in range(20):
                info = {"n_ads": i // 4, "sid": f"{metal}-{adsorbate}-{i}"}
                info["adsorption_energy_per_ads"] = -0.5 * i
                frames.append(Atoms([metal], info=info))
    return frames


def test_adsorbates_are_split_without_overlap():
    parts = split_adsorbates(surfaces())
    sids = {name: {atoms.info["sid"] for atoms in part} for name, part in parts.items()}
    assert sum(len(part) for part in parts.values()) == len(set.union(*sids.values())) == 896
    assert (len(parts["pairs"]), len(parts["test"])) == (7 * 16, 78)
    known = {pair_of(atoms) for atoms in parts["train"]}
    assert {pair_of(atoms) for atoms in parts["pairs"]} == set(HELD_OUT_PAIRS)
    assert len(known) == 49
    assert not known & set(HELD_OUT_PAIRS)
    last = parts["train"][-1].info
    assert last["relaxed_energy"] == 4 * last["adsorption_energy_per_ads"] < -30
    assert [atoms.info["sid"] for atoms in split_adsorbates(surfaces())["test"]] == [
        atoms.info["sid"] for atoms in parts["test"]
    ]


RESULT = {
    "budget": "40 structures seen", "date": "2026-11-21", "machine": "one core", "load": "1",
    "commit": "abc", "torch": "2.13", "parameters": 1234, "structures_seen": 40,
    "structures_per_second": 5.0, "milliseconds": 7.5,
    "errors": {"rattled": {"energy_mae": 1.5, "energy_within": 0.5, "forces_mae": 20.5,
                           "forces_cosine": 0.9, "both_within": 0.25}},
}  # fmt: skip


def test_page_has_every_figure_and_where_it_comes_from(tiny, tmp_path):
    page = tmp_path / "zoo.md"
    write_page(page, {"s2ef": tiny}, {"s2ef": {"EGNN": RESULT}}, "python -m benchmarks.zoo")
    text = page.read_text()
    assert "| EGNN | 1234 | 40 | 5 | 7.5 | 1.5 | 20.5 | 0.9 | 25 |" in text
    assert "| linear baseline |  |  |  |  |" in text
    assert "python -m benchmarks.zoo" in text
    assert "- date: 2026-11-21" in text
    assert "![Errors" in text
    assert (tmp_path / "zoo.png").read_bytes().startswith(b"\x89PNG")


def test_stored_results_of_other_options_are_refused(tiny, tmp_path, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(zoo.Training, "run", never)
    folder = tmp_path / "out" / "EGNN"
    folder.mkdir(parents=True)
    budget = zoo.Budget(None, 40)
    wanted = zoo.Training(tiny, "EGNN", folder, budget).configuration
    stored = RESULT | {"configuration": wanted}
    (folder / "result.json").write_text(json.dumps(stored))
    assert zoo.result_of(tiny, "EGNN", folder, budget) == stored
    with pytest.raises(ConfigError, match="another budget"):
        zoo.result_of(tiny, "EGNN", folder, zoo.Budget(None, 80))


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match="Both --seconds and --structures"):
        zoo.main(["--seconds", "3", "--structures", "4"])
    with pytest.raises(UnknownNameError, match="did you mean 'EGNN'"):
        zoo.main(["--backbones", "EGNM"])


@pytest.mark.slow
def test_a_trial_of_two_backbones(tiny, tmp_path, monkeypatch):
    """The whole way: trial, training, measurement and page, and then no training any more."""
    monkeypatch.setattr(zoo, "SETS", {"s2ef": lambda _: tiny})
    small = {"GraphConvModel": zoo_models.ZooModel("GraphConvModel", 1e-2, {"out_dim": 8})}
    monkeypatch.setattr("benchmarks.zoo_training.MODELS", small)
    monkeypatch.setattr(zoo, "MODELS", small)
    page = tmp_path / "page.md"
    output = str(tmp_path / "out")
    options = ["--seconds", "2", "--sets", "s2ef", "--backbones", "GraphConvModel"]
    options += ["--output", output, "--page", str(page)]
    zoo.main(options)
    steps = json.loads((tmp_path / "out" / "s2ef" / "GraphConvModel" / "steps.json").read_text())
    assert steps > 1
    before = page.read_text()
    monkeypatch.setattr(zoo.Training, "run", lambda _: pytest.fail("trained again"))
    zoo.main(options)
    assert page.read_text() == before
