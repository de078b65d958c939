"""Targets in network units: references in float64, one scale, the right rows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.constraints import FixAtoms

from adatom.core.errors import DataError
from adatom.data.atomic_data import AtomicData, collate
from adatom.tasks.targets import task_target

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from toy_backbone import toy_potential


def system(labels: dict[str, torch.Tensor], fixed: list[int] | None = None) -> AtomicData:
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.2]])
    atoms.set_constraint(FixAtoms(fixed or []))
    data = AtomicData.from_ase(atoms, sid="co")
    data.labels = labels
    return data


def test_energy_loses_no_digits() -> None:
    potential = toy_potential(rmsd=2.0)
    references = potential.task_for("default", "energy").element_references
    assert references is not None
    references[6] = references[8] = -50_000.0
    energy = -100_000.0 + 0.0012345
    data = system({"energy": torch.tensor([energy], dtype=torch.float64)})
    target = task_target(potential.task_for("default", "energy"), data)
    assert float(target.values) == pytest.approx(0.0012345 / 2.0, abs=1e-10)
    assert target.natoms.tolist() == [2.0]


def test_missing_rows_and_fixed_atoms_do_not_count() -> None:
    one = system({"forces": torch.ones(2, 3, dtype=torch.float64)}, fixed=[0])
    two = system({"energy": torch.zeros(1, dtype=torch.float64)})
    target = task_target(toy_potential(rmsd=4.0).task_for("default", "forces"), collate([one, two]))
    assert target.mask.tolist() == [False, True, False, False]
    assert torch.equal(target.values[:2], torch.full((2, 3), 0.25, dtype=torch.float64))


def test_a_task_may_train_on_fixed_atoms() -> None:
    task = toy_potential().task_for("default", "forces")
    task.train_on_free_atoms = False
    data = system({"forces": torch.ones(2, 3, dtype=torch.float64)}, fixed=[0])
    assert task_target(task, data).mask.tolist() == [True, True]


def test_no_label_at_all_counts_nothing() -> None:
    target = task_target(toy_potential().task_for("default", "stress"), system({}))
    assert target.values.shape == target.mask.shape == (1, 3, 3)
    assert not target.mask.any()


def test_an_element_without_a_reference_is_not_zero() -> None:
    task = toy_potential().task_for("default", "energy")
    assert task.element_references is not None
    task.element_references = task.element_references[:8]  # up to nitrogen
    data = system({"energy": torch.zeros(1, dtype=torch.float64)})
    assert task_target(task, data).values.isnan().all()


def test_a_label_of_another_shape_is_named() -> None:
    task = toy_potential().task_for("default", "stress")
    with pytest.raises(DataError, match=r"'stress'.*'co'.*\(1, 6\).*Expected \(1, 3, 3\)"):
        task_target(task, system({"stress": torch.zeros(1, 6)}))
