"""The relaxed energy as a property: units, what it excludes, and who refuses it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.checkpoint.format import load_potential, save_potential
from adatom.core.errors import ConfigError, MissingLabelError
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import collate
from adatom.evaluate import evaluate
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.tasks.domain import Domain
from adatom.tasks.metrics import METRICS
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task
from toy_backbone import ToyBackbone, ToyHead

REFERENCES = torch.linspace(0.0, -3.0, 119, dtype=torch.float64)


def task(prop: str, dataset: str, references: torch.Tensor | None = None) -> Task:
    spec = OutputSpec((1,), "float64")
    return Task(
        f"{dataset}_{prop}",
        "system",
        prop,
        spec,
        Normalizer(-0.5, 2.0),
        [dataset],
        element_references=references,
    )


def potential(*tasks: Task) -> Potential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        backbone, head = ToyBackbone(num_channels=5), ToyHead(5, 1.0)
    domains = {name: Domain((1, 8, 29)) for one in tasks for name in one.datasets}
    return Potential(backbone, head, list(tasks), domains).double().eval().requires_grad_(False)


@pytest.fixture
def relaxed() -> Potential:
    return potential(task("relaxed_energy", "is2re", REFERENCES))


def test_it_is_the_sum_over_atoms_in_the_units_of_its_task(relaxed: Potential) -> None:
    same = potential(task("energy", "is2re", REFERENCES))
    data = collate(
        [
            from_ase(bulk("Cu"), dataset="is2re"),
            from_ase(Atoms("H2O", [[0, 0, 0], [0, 0, 1], [0, 1, 0]]), dataset="is2re"),
        ]
    )
    data = data.with_edges(relaxed.cutoff)
    found = relaxed.denormalize(relaxed(data, ["relaxed_energy"]), data)["relaxed_energy"]
    expected = same.denormalize(same(data, ["energy"]), data)["energy"]
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-12)
    raw = relaxed(data, ["relaxed_energy"])["relaxed_energy"]
    sums = torch.stack([REFERENCES[29], 2 * REFERENCES[1] + REFERENCES[8]])
    torch.testing.assert_close(found, 2.0 * raw - 0.5 + sums, rtol=0.0, atol=1e-12)


def test_it_takes_the_place_of_the_energy_and_its_derivatives(relaxed: Potential) -> None:
    assert relaxed.properties("is2re") == ["embeddings", "relaxed_energy"]
    prediction = MLIPPredictUnit(relaxed).predict(molecule("H2O"))
    assert list(prediction) == ["relaxed_energy"]
    with pytest.raises(MissingLabelError, match="whose derivatives are not forces"):
        MLIPPredictUnit(relaxed).predict(molecule("H2O"), ["forces"])["forces"]


def test_datasets_of_both_kinds_share_a_network() -> None:
    both = potential(task("relaxed_energy", "is2re"), task("energy", "s2ef"))
    data = collate([from_ase(molecule("H2O"), dataset=name) for name in ("is2re", "s2ef")])
    data = data.with_edges(both.cutoff)
    out = both.denormalize(both(data, ["energy", "relaxed_energy", "forces"]), data)
    assert out["energy"].isnan().tolist() == [True, False]
    assert out["relaxed_energy"].isnan().tolist() == [False, True]
    assert out["forces"].isnan().any(dim=1).tolist() == [True] * 3 + [False] * 3


def test_one_dataset_has_one_of_them() -> None:
    with pytest.raises(ConfigError, match="which one network cannot both give"):
        potential(task("relaxed_energy", "d"), task("energy", "d"))


def test_it_survives_a_checkpoint(relaxed: Potential, tmp_path: Path) -> None:
    save_potential(relaxed, tmp_path / "r.safetensors")
    again = load_potential(tmp_path / "r.safetensors", allow=[ToyBackbone, ToyHead])
    unit, other = MLIPPredictUnit(relaxed), MLIPPredictUnit(again)
    water = molecule("H2O")
    assert torch.equal(
        unit.predict(water)["relaxed_energy"], other.predict(water)["relaxed_energy"]
    )


def test_calculators_and_evaluations_refuse_it(relaxed: Potential) -> None:
    with pytest.raises(ConfigError, match=r"relaxed energies for the task 'is2re'.*no forces"):
        MLIPCalculator(relaxed)
    system = from_ase(molecule("H2O"), dataset="is2re")
    system.labels["energy"] = torch.zeros(1, dtype=torch.float64)
    with pytest.raises(ConfigError, match="relaxed energies"):
        evaluate(MLIPPredictUnit(relaxed), [system])


def test_the_leaderboards_names_are_metrics() -> None:
    for short, name in (
        ("EwT", "energy_within_threshold"),
        ("EFwT", "energy_forces_within_threshold"),
        ("cosine", "cosine_similarity"),
    ):
        assert METRICS[short] is METRICS[name]
    assert "relaxed_energy" in METRICS["EwT"].properties
    assert "relaxed_energy" not in METRICS["EFwT"].properties
