"""Targets in network units: references in float64, one scale, the right rows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.constraints import FixAtoms

from adatom.core.errors import MissingLabelError
from adatom.data.atomic_data import AtomicData, collate
from adatom.tasks.targets import normalized_target

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
    target = normalized_target(potential, data, "energy")
    assert float(target.values) == pytest.approx(0.0012345 / 2.0, abs=1e-10)
    assert target.natoms.tolist() == [2.0]


def test_missing_rows_and_fixed_atoms_do_not_count() -> None:
    one = system({"forces": torch.ones(2, 3, dtype=torch.float64)}, fixed=[0])
    two = system({"energy": torch.zeros(1, dtype=torch.float64)})
    target = normalized_target(toy_potential(rmsd=4.0), collate([one, two]), "forces")
    assert target.mask.tolist() == [False, True, False, False]
    assert torch.equal(target.values[:2], torch.full((2, 3), 0.25, dtype=torch.float64))


def test_a_task_may_train_on_fixed_atoms() -> None:
    potential = toy_potential()
    potential.task_for("default", "forces").train_on_free_atoms = False
    data = system({"forces": torch.ones(2, 3, dtype=torch.float64)}, fixed=[0])
    assert normalized_target(potential, data, "forces").mask.tolist() == [True, True]


def test_no_label_at_all_is_an_error() -> None:
    with pytest.raises(MissingLabelError, match=r"'co'.*'stress'"):
        normalized_target(toy_potential(), system({}), "stress")
