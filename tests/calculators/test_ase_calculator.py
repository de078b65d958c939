"""The ASE calculator: agreement with the predict unit, Verlet skin, charge and spin."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.verlet import VelocityVerlet
from ase.stress import voigt_6_to_full_3x3_stress

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.core.errors import ConfigError, OutOfDomainError, UnknownNameError
from adatom.inference.predict_unit import MLIPPredictUnit
from toy_backbone import toy_potential


def crystal():
    atoms = bulk("Cu", "fcc", a=3.7) * (3, 2, 2)
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.fixture(scope="module")
def unit():
    return MLIPPredictUnit(toy_potential())


def test_all_properties_agree_with_the_predict_unit(unit):
    atoms = crystal()
    atoms.calc = MLIPCalculator(unit)
    expected = unit.predict(crystal())
    assert atoms.get_potential_energy() == pytest.approx(float(expected["energy"][0]), abs=1e-12)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.get_forces(), expected["forces"], atol=1e-12)
    np.testing.assert_allclose(atoms.get_potential_energies(), expected["energies"], atol=1e-12)
    stress = atoms.get_stress()
    assert stress.shape == (6,)
    np.testing.assert_allclose(
        voigt_6_to_full_3x3_stress(stress), expected["stress"][0], atol=1e-14
    )


def test_no_stress_without_volume(unit):
    atoms = molecule("H2O")
    atoms.calc = MLIPCalculator(unit)
    assert np.isfinite(atoms.get_forces()).all()
    with pytest.raises(PropertyNotImplementedError, match="no volume"):
        atoms.get_stress()


def test_the_skin_changes_nothing_along_a_trajectory(unit):
    runs = {}
    for skin in (0.0, 0.6):
        atoms = crystal()
        atoms.set_momenta(2.0 * np.random.default_rng(3).standard_normal((len(atoms), 3)))
        atoms.calc = MLIPCalculator(unit, skin=skin)
        energies = []
        dynamics = VelocityVerlet(atoms, 2 * units.fs)
        for _ in range(60):
            dynamics.run(1)
            energies.append(atoms.get_potential_energy())
        runs[skin] = (atoms.positions.copy(), energies, atoms.calc.neighbors.num_searches)
    np.testing.assert_array_equal(runs[0.0][0], runs[0.6][0])
    assert runs[0.0][1] == runs[0.6][1]
    assert runs[0.6][2] < 10 < runs[0.0][2]


def test_charge_and_spin_come_from_info_and_trigger_a_calculation(unit):
    atoms = molecule("H2O")
    atoms.calc = MLIPCalculator(unit)
    neutral = atoms.get_potential_energy()
    atoms.info["charge"] = 1
    info = copy.deepcopy(atoms.info)
    charged = atoms.get_potential_energy()
    assert charged != neutral
    assert atoms.info == info
    atoms.info["comment"] = "not a reason to calculate"
    assert atoms.calc.check_state(atoms) == []
    atoms.info["charge"] = 7
    with pytest.raises(OutOfDomainError, match="charge 7"):
        atoms.get_potential_energy()


def test_a_task_has_to_be_chosen_only_among_several(unit):
    several = toy_potential(("omat", "omol"))
    with pytest.raises(ConfigError, match="omat, omol"):
        MLIPCalculator(several)
    with pytest.raises(UnknownNameError, match="did you mean 'omol'"):
        MLIPCalculator(several, "omol25")
    assert MLIPCalculator(several, "omol").task_name == "omol"
    assert MLIPCalculator(unit).task_name == "default"


def test_device_and_dtype_belong_to_the_predict_unit(unit):
    with pytest.raises(ConfigError, match="predict unit"):
        MLIPCalculator(unit, dtype=torch.float32)
    single = MLIPCalculator(unit.potential, dtype=torch.float32)
    assert single.predict_unit.dtype == torch.float32
    assert single.todict()["dtype"] == "float32"


def test_threads_are_set_only_during_the_calculation(unit):
    before = torch.get_num_threads()
    atoms = molecule("H2O")
    atoms.calc = MLIPCalculator(unit, threads=before + 1)
    atoms.get_potential_energy()
    assert torch.get_num_threads() == before
