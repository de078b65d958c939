"""Charge, spin and periodicity that a task needs: completed, warned about once, or refused."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase.build import molecule

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.calculators.task_rules import TaskRules
from adatom.core.errors import DataError, OutOfDomainError
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.tasks.domain import Domain
from toy_backbone import toy_potential

WATER = np.array([8, 1, 1])
METHYL = np.array([6, 1, 1, 1])
NEUTRAL = Domain((1, 6, 8, 29), charges=(0,), spins=(0,))
CHARGED = Domain((1, 6, 8, 29), spins=tuple(range(1, 101)))


def resolve(rules, numbers=WATER, charge=None, spin=None, periodic=False):
    return rules.charge_and_spin(
        numbers, periodic=periodic, charge=charge, spin=spin, where="Structure 'x'"
    )


def test_missing_numbers_are_assumed_with_one_warning():
    rules = TaskRules("omol", CHARGED)
    with pytest.warns(UserWarning, match="no charge and no spin.*charge 0 and spin mult.* 1"):
        assert resolve(rules) == (0, 1)
    with warnings.catch_warnings(action="error"):
        assert resolve(rules) == (0, 1)
    with pytest.warns(UserWarning, match="has no spin, which.*multiplicity 1 assumed"):
        assert resolve(rules, charge=-2) == (-2, 1)
    with pytest.warns(UserWarning, match="has no charge, which"):
        assert resolve(rules, spin=3) == (0, 3)
    assert resolve(rules, METHYL, charge=0, spin=2) == (0, 2)


def test_a_radical_needs_its_multiplicity():
    rules = TaskRules("omol", CHARGED)
    with pytest.raises(DataError, match=r"odd number of electrons \(9\).*a radical has spin 2"):
        resolve(rules, METHYL)
    with pytest.raises(DataError, match="odd number"):
        resolve(rules, charge=1)


@pytest.mark.parametrize(
    ("numbers", "charge", "spin"),
    [(WATER, 0, 2), (METHYL, 0, 1), (METHYL, 1, 2), (np.array([1]), 0, 4), (np.array([1]), 1, 3)],
)
def test_impossible_multiplicities_are_refused(numbers, charge, spin):
    with pytest.raises(OutOfDomainError, match=f"cannot have spin multiplicity {spin}"):
        resolve(TaskRules("omol", CHARGED), numbers, charge, spin)


def test_a_proton_has_no_electron():
    assert resolve(TaskRules("omol", CHARGED), np.array([1]), 1, 1) == (1, 1)


def test_a_task_without_charge_and_spin():
    rules = TaskRules("omat", NEUTRAL)
    assert resolve(rules) == (0, 0)
    assert resolve(rules, charge=0, spin=0) == (0, 0)
    with pytest.warns(UserWarning, match="'omat' was trained without spin"):
        assert resolve(rules, charge=0, spin=1) == (0, 0)
    # Left to the potential, which refuses what it never saw.
    assert resolve(rules, charge=1, spin=2) == (1, 2)


def test_periodic_molecules_are_warned_about_once():
    rules = TaskRules("omol", CHARGED)
    with pytest.warns(UserWarning, match="periodic, but the task 'omol'"):
        resolve(rules, charge=0, spin=1, periodic=True)
    with warnings.catch_warnings(action="error"):
        resolve(rules, charge=0, spin=1, periodic=True)
    with warnings.catch_warnings(action="error"):
        resolve(TaskRules("omat", NEUTRAL), periodic=True)


@pytest.fixture
def molecular():
    potential = toy_potential(("omat", "omol"))
    potential.domains = {"omat": NEUTRAL, "omol": CHARGED}
    return MLIPPredictUnit(potential)


def test_the_calculator_follows_the_rules(molecular):
    water = molecule("H2O")
    water.calc = MLIPCalculator(molecular, "omol")
    with pytest.warns(UserWarning, match="assumed"):
        assumed = water.get_potential_energy()
    assert water.info == {}
    water.info.update(charge=0, spin=1)
    assert water.get_potential_energy() == assumed
    water.info["spin"] = 2
    with pytest.raises(OutOfDomainError, match="10 electrons"):
        water.get_potential_energy()
    charged = molecule("H2O", info={"charge": 1})
    charged.calc = MLIPCalculator(molecular, "omat")
    with pytest.raises(OutOfDomainError, match="charge 1, which this potential never saw"):
        charged.get_potential_energy()
