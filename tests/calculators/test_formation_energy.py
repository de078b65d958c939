"""Formation energies: references subtracted, everything else passed on."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import CalculatorSetupError
from ase.calculators.emt import EMT
from ase.optimize import BFGS

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.calculators.formation_energy import FormationEnergyCalculator
from adatom.core.errors import ConfigError, DataError, UnknownNameError
from adatom.inference.predict_unit import MLIPPredictUnit
from toy_backbone import toy_potential

REFERENCES = {"Cu": -1.25, "Si": 0.5}


def alloy():
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True)
    atoms.numbers[0] = 14
    atoms.rattle(0.05, seed=1)
    return atoms


def calculator(task="default", references=REFERENCES):
    potential = toy_potential((task,))
    potential.metadata = {"form_elem_refs": {task: references}}
    return MLIPCalculator(MLIPPredictUnit(potential))


def test_references_are_subtracted_and_the_rest_is_passed_on():
    total, formed = alloy(), alloy()
    total.calc = calculator()
    formed.calc = FormationEnergyCalculator(calculator())
    shift = 3 * -1.25 + 0.5
    expected = total.get_potential_energy() - shift
    assert formed.get_potential_energy() == pytest.approx(expected, abs=1e-12)
    assert formed.get_potential_energy(force_consistent=True) == formed.get_potential_energy()
    energies = formed.get_potential_energies()
    assert energies.sum() == pytest.approx(expected, abs=1e-12)
    np.testing.assert_array_equal(formed.get_forces(), total.get_forces())
    np.testing.assert_array_equal(formed.get_stress(), total.get_stress())
    assert formed.get_stresses().shape == (4, 6)


def test_energies_follow_a_relaxation():
    atoms = alloy()
    atoms.calc = FormationEnergyCalculator(calculator(), {"Cu": 0.0, "Si": 0.0})
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=20)
    other = atoms.copy()
    other.calc = calculator()
    assert atoms.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=1e-12)


def test_any_calculator_can_be_wrapped():
    atoms = bulk("Cu")
    atoms.calc = FormationEnergyCalculator(EMT(), {"Cu": 2.0})
    plain = bulk("Cu")
    plain.calc = EMT()
    assert atoms.get_potential_energy() == pytest.approx(plain.get_potential_energy() - 2.0)
    with pytest.raises(ConfigError, match="EMT knows no reference energies"):
        FormationEnergyCalculator(EMT())


def test_missing_references():
    with pytest.raises(ConfigError, match="no formation reference energies for 'default'"):
        FormationEnergyCalculator(MLIPCalculator(MLIPPredictUnit(toy_potential())))
    atoms = alloy()
    atoms.calc = FormationEnergyCalculator(calculator(references={"Cu": 1.0}))
    with pytest.raises(DataError, match="no reference energy for Si"):
        atoms.get_potential_energy()


def test_corrections_need_their_package_and_their_task():
    with pytest.raises(ConfigError, match=r"fairchem-data-omat.*apply_corrections=False"):
        FormationEnergyCalculator(calculator("omat"))
    with pytest.raises(ConfigError, match="task is 'default'"):
        FormationEnergyCalculator(calculator(), apply_corrections=True)
    with pytest.raises(UnknownNameError, match="did you mean 'MP2020'"):
        FormationEnergyCalculator(calculator(), correction_type="MP2022")
    assert FormationEnergyCalculator(calculator("omat"), apply_corrections=False).results == {}


def test_corrections_are_applied_to_the_total_energy(monkeypatch):
    """With a stand-in for the package, which has the documented function."""
    module = ModuleType("fairchem.data.omat.entries.compatibility")
    module.apply_mp_style_corrections = lambda energy, atoms, correction_type: (
        energy - 0.1 * len(atoms) - (correction_type == "MP2020")
    )
    for name in ("fairchem", "fairchem.data", "fairchem.data.omat", "fairchem.data.omat.entries"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    energies = {}
    for kind in (None, "OMat24", "MP2020"):
        atoms = alloy()
        options = {"apply_corrections": False} if kind is None else {"correction_type": kind}
        atoms.calc = FormationEnergyCalculator(calculator("omat"), **options)
        energies[kind] = atoms.get_potential_energy()
    assert energies["OMat24"] == pytest.approx(energies[None] - 0.4, abs=1e-12)
    assert energies["MP2020"] == pytest.approx(energies[None] - 1.4, abs=1e-12)


def test_an_error_of_the_inner_calculator_is_passed_on():
    atoms = bulk("U")
    atoms.calc = FormationEnergyCalculator(EMT(), {"U": 0.0})
    with pytest.raises((NotImplementedError, KeyError, CalculatorSetupError)):
        atoms.get_potential_energy()
    assert atoms.calc.results == {}
