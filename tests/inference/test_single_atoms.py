"""Lone atoms of potentials that were not made for them are answered from a table."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms
from ase.build import molecule

from adatom.core.errors import MissingLabelError, OutOfDomainError
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import collate
from adatom.inference.predict_unit import MLIPPredictUnit
from toy_backbone import toy_potential


@pytest.fixture
def unit():
    potential = toy_potential(("omat", "omol"))
    potential.metadata["supports_single_atoms"] = False
    potential.metadata["atom_refs"] = {"omol": {"1": {"0": -13.6, "1": 0.0}, "8": -2040.0}}
    return MLIPPredictUnit(potential)


def test_a_lone_atom_comes_from_the_table(unit):
    found = unit.predict(Atoms("H"), task_name="omol")
    assert float(found["energy"]) == -13.6
    assert float(found["energies"]) == -13.6
    assert found["forces"].tolist() == [[0, 0, 0]]
    with pytest.raises(MissingLabelError, match="no cell, hence no volume"):
        found["stress"]
    charged = Atoms("H", info={"charge": 1})
    assert float(unit.predict(charged, task_name="omol")["energy"]) == 0.0
    assert float(unit.predict(Atoms("O"), task_name="omol")["energy"]) == -2040.0
    boxed = Atoms("O", cell=[9, 9, 9])
    assert unit.predict(boxed, task_name="omol")["stress"].abs().sum() == 0


def test_a_lone_atom_among_others_keeps_its_place(unit):
    structures = [molecule("H2O"), Atoms("H"), molecule("CO2"), Atoms("O")]
    found = unit.predict(structures, task_name="omol")
    assert found["energy"][[1, 3]].tolist() == [-13.6, -2040.0]
    for i in (0, 2):
        alone = unit.predict(structures[i], task_name="omol")
        torch.testing.assert_close(found["energy"][i : i + 1], alone["energy"])
    batch = collate([from_ase(atoms, dataset="omol") for atoms in structures])
    torch.testing.assert_close(unit.predict(batch)["energy"], found["energy"])


def test_what_the_table_does_not_have_is_an_error(unit):
    with pytest.raises(OutOfDomainError, match="no energy of C with charge 0 for 'omol'"):
        unit.predict(Atoms("C"), task_name="omol")
    with pytest.raises(OutOfDomainError, match="no energy of H with charge 0 for 'omat'"):
        unit.predict(Atoms("H"), task_name="omat")
    del unit.potential.metadata["atom_refs"]
    with pytest.raises(OutOfDomainError, match="has no table of isolated atoms"):
        unit.predict(Atoms("H"), task_name="omol")


def test_what_a_lone_atom_does_not_have_is_named(unit):
    found = unit.predict([Atoms("H"), molecule("H2O")], ["embeddings"], task_name="omol")
    assert list(found.absent["embeddings"]) == [0]
    assert bool(found["embeddings"][0].isnan().all())


def test_a_periodic_atom_and_other_potentials_take_the_network(unit):
    chain = Atoms("H", cell=[2, 9, 9], pbc=[True, False, False])
    assert float(unit.predict(chain, task_name="omol")["energy"]) != -13.6
    ordinary = MLIPPredictUnit(toy_potential(("omat", "omol")))
    assert float(ordinary.predict(Atoms("H"), task_name="omol")["energy"]) != -13.6
