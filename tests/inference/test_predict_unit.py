"""The predict unit: physical values, what is absent, and refusals."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from adatom.core.errors import (
    ConfigError,
    DataError,
    MissingLabelError,
    NonFiniteError,
    OutOfDomainError,
    UnknownNameError,
)
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import collate
from adatom.inference.predict_unit import MLIPPredictUnit
from toy_backbone import toy_potential


def crystal() -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.7) * (2, 1, 1)
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.fixture(scope="module")
def unit() -> MLIPPredictUnit:
    return MLIPPredictUnit(toy_potential(rmsd=1.7))


def test_shapes_and_dtypes(unit):
    single = MLIPPredictUnit(unit.potential, dtype=torch.float32)
    systems = [crystal(), molecule("H2O"), crystal()]
    prediction = single.predict(systems)
    assert prediction["energy"].shape == (3,)
    assert prediction["energy"].dtype == torch.float64
    assert prediction["energies"].shape == (7,)
    assert prediction["energies"].dtype == torch.float64
    assert prediction["forces"].shape == (7, 3)
    assert prediction["forces"].dtype == torch.float32
    assert prediction["stress"].shape == (3, 3, 3)
    assert prediction["stress"].dtype == torch.float64
    assert not any(value.requires_grad for value in prediction.values())
    assert unit.dtype == torch.float64


def test_the_given_potential_is_left_alone():
    potential = toy_potential().train()
    before = copy.deepcopy(potential.state_dict())
    MLIPPredictUnit(potential, dtype=torch.float32).predict(crystal())
    assert potential.training
    assert potential.dtype == torch.float64
    assert all(p.requires_grad for p in potential.parameters())
    assert all(torch.equal(before[k], v) for k, v in potential.state_dict().items())


def test_energies_sum_to_the_energy_with_references(unit):
    prediction = unit.predict([crystal(), molecule("H2O")])
    sums = torch.stack([prediction["energies"][:2].sum(), prediction["energies"][2:].sum()])
    torch.testing.assert_close(sums, prediction["energy"], rtol=0, atol=1e-12)


def test_forces_and_stress_are_physical_derivatives(unit):
    atoms, step = crystal(), 1e-4
    prediction = unit.predict(atoms)
    energy = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[0, 1] += sign * step
        energy.append(float(unit.predict(moved, ["energy"])["energy"][0]))
    slope = (energy[0] - energy[1]) / (2 * step)
    assert float(prediction["forces"][0, 1]) == pytest.approx(-slope, abs=1e-7)
    energy = []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.set_cell(atoms.cell @ (np.eye(3) + sign * step * np.eye(3)), scale_atoms=True)
        energy.append(float(unit.predict(strained, ["energy"])["energy"][0]))
    pressure = (energy[0] - energy[1]) / (2 * step) / atoms.get_volume()
    assert float(prediction["stress"][0].trace()) == pytest.approx(pressure, abs=1e-7)


def test_splitting_into_batches_changes_nothing(unit):
    systems = [crystal(), molecule("H2O"), crystal() * (2, 2, 1), molecule("CO2")]
    whole = unit.predict(systems)
    for max_atoms in (1, 4, 9):
        parts = MLIPPredictUnit(unit.potential, max_atoms=max_atoms).predict(systems)
        for name, value in whole.items():
            torch.testing.assert_close(
                parts[name], value, rtol=0, atol=1e-12, equal_nan=name == "stress"
            )


def test_a_batch_and_a_list_are_the_same(unit):
    systems = [from_ase(crystal()), from_ase(molecule("H2O"))]
    batch = collate(systems).with_edges(unit.potential.cutoff)
    listed, batched = unit.predict(systems), unit.predict(batch)
    torch.testing.assert_close(listed["forces"], batched["forces"], rtol=0, atol=1e-12)


def test_stress_without_volume_is_absent_and_named(unit):
    mixed = unit.predict([crystal(), molecule("H2O")])
    assert list(mixed.absent["stress"]) == [1]
    assert bool(mixed["stress"][1].isnan().all())
    assert bool(mixed["stress"][0].isfinite().all())
    alone = unit.predict(molecule("H2O"), ["energy", "stress"])
    assert "stress" not in alone
    with pytest.raises(MissingLabelError, match="'H2O' has no stress: it has no cell"):
        alone["stress"]
    with pytest.raises(MissingLabelError, match="'forces' was not predicted"):
        alone["forces"]


def test_only_what_was_asked_for(unit):
    assert list(unit.predict(crystal(), ["energy"])) == ["energy"]
    with pytest.raises(UnknownNameError, match="did you mean 'stress'"):
        unit.predict(crystal(), ["stres"])
    with pytest.raises(ConfigError, match="No property"):
        unit.predict(crystal(), [])


def test_stress_needs_no_task_of_its_own(unit):
    without = MLIPPredictUnit(toy_potential(rmsd=1.7, stress=False))
    torch.testing.assert_close(
        without.predict(crystal())["stress"], unit.predict(crystal())["stress"]
    )


def test_unseen_elements_charges_and_tasks_are_refused(unit):
    with pytest.raises(OutOfDomainError, match=r"has Au, which.*Expected only elements among H, C"):
        unit.predict([crystal(), Atoms("Au")])
    charged = molecule("H2O")
    charged.info["charge"] = 5
    with pytest.raises(OutOfDomainError, match=r"charge 5.*among 0, 1"):
        unit.predict(charged)
    with pytest.raises(UnknownNameError, match="default"):
        unit.predict(crystal(), task_name="defualt")
    with pytest.raises(UnknownNameError, match="omat"):
        unit.predict(from_ase(crystal(), dataset="omat"))


def test_several_tasks_need_a_choice():
    unit = MLIPPredictUnit(toy_potential(("omat", "omol")))
    with pytest.raises(ConfigError, match="omat, omol"):
        unit.predict(crystal())
    assert "energy" in unit.predict(crystal(), task_name="omol")


def test_unusable_input_is_refused(unit):
    with pytest.raises(DataError, match="no structure"):
        unit.predict([])
    with pytest.raises(DataError, match="atoms 0 and 1"):
        unit.predict(Atoms("CuCu", positions=[[0, 0, 0], [0, 0, 0.01]]))
    with pytest.raises(ConfigError, match="max_atoms"):
        MLIPPredictUnit(unit.potential, max_atoms=0)
    with pytest.raises(ConfigError, match="dtype"):
        MLIPPredictUnit(unit.potential, dtype=torch.int64)


def test_a_prediction_that_is_not_finite_is_refused(unit):
    broken = copy.deepcopy(unit.potential)
    with torch.no_grad():
        broken.backbone.element.weight[8] = float("nan")
    with pytest.raises(NonFiniteError, match="energy of structure 'H2O'"):
        MLIPPredictUnit(broken).predict([crystal(), molecule("H2O")])
