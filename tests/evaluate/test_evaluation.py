"""Errors against hand-made labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk

from adatom.core.errors import DataError, MissingLabelError
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData
from adatom.evaluate import evaluate
from adatom.inference.predict_unit import MLIPPredictUnit
from toy_backbone import toy_potential


def labelled(unit: MLIPPredictUnit, count: int = 4) -> list[AtomicData]:
    """Return crystals labelled with the unit's own predictions plus known errors."""
    rng = np.random.default_rng(0)
    systems = []
    for i in range(count):
        atoms = bulk("Cu" if i % 2 else "Si", "fcc", a=3.9, cubic=True)
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        system = from_ase(atoms, sid=f"s{i}")
        out = unit.predict(system, ["energy", "forces", "stress"])
        system.labels["energy"] = out["energy"] + 0.4
        system.labels["forces"] = out["forces"] + torch.tensor([0.0, 0.3, -0.4])
        system.labels["stress"] = out["stress"] * 1.0
        systems.append(system)
    return systems


@pytest.fixture
def unit() -> MLIPPredictUnit:
    return MLIPPredictUnit(toy_potential())


def test_known_errors_come_back(unit: MLIPPredictUnit) -> None:
    systems = labelled(unit)
    result = evaluate(unit, systems, groups=["a", "a", "b", "b"])
    overall = result.overall
    assert overall.energy_per_atom is not None
    assert overall.forces is not None
    assert overall.force_vectors is not None
    assert overall.stress is not None
    assert overall.energy_per_atom.mae == pytest.approx(0.1)
    assert overall.energy_per_atom.rmse == pytest.approx(0.1)
    assert overall.forces.mae == pytest.approx(0.7 / 3)
    assert overall.forces.rmse == pytest.approx(0.5 / 3**0.5)
    assert overall.force_vectors.rmse == pytest.approx(0.5)
    assert overall.stress.rmse == pytest.approx(0.0, abs=1e-14)
    labels = np.array([float(s.labels["energy"]) / s.num_atoms for s in systems])
    references = np.array([-0.14, -0.29, -0.14, -0.29])
    assert result.baseline_rmse == pytest.approx(np.sqrt(((labels - references) ** 2).mean()))
    assert set(result.by_element) == {"Si", "Cu"}
    assert set(result.by_group) == {"a", "b"}
    assert sum(len(v["sid"]) > 0 for v in result.worst) == 4


def test_one_bad_structure_is_named_worst(unit: MLIPPredictUnit) -> None:
    systems = labelled(unit)
    systems[2].labels["forces"][0, 0] += 9.0
    assert evaluate(unit, systems).worst[0]["sid"] == "s2"


def test_missing_labels_do_not_count(unit: MLIPPredictUnit) -> None:
    systems = labelled(unit)
    del systems[1].labels["energy"], systems[3].labels["stress"]
    result = evaluate(unit, systems)
    assert result.overall.energy_per_atom is not None
    assert result.overall.energy_per_atom.count == 3
    assert result.overall.stress is not None
    assert result.overall.stress.count == 27


def test_nothing_to_compare_is_an_error(unit: MLIPPredictUnit) -> None:
    systems = labelled(unit, 1)
    systems[0].labels.clear()
    with pytest.raises(MissingLabelError, match="energy or forces"):
        evaluate(unit, systems)
    with pytest.raises(DataError, match="no structures"):
        evaluate(unit, [])
    with pytest.raises(DataError, match="group names"):
        evaluate(unit, labelled(unit), groups=["a"])
