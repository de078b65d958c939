"""The ASE calculator: agreement with the predict unit, Verlet skin, charge and spin."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.md.verlet import VelocityVerlet
from ase.stress import voigt_6_to_full_3x3_stress

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.core.errors import ConfigError, DataError, OutOfDomainError, UnknownNameError
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.inference.settings import InferenceSettings
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
    settings = InferenceSettings(torch_num_threads=before + 1)
    atoms.calc = MLIPCalculator(unit.potential, inference_settings=settings)
    atoms.get_potential_energy()
    assert torch.get_num_threads() == before


def test_settings_belong_to_the_predict_unit(unit):
    with pytest.raises(ConfigError, match="predict unit"):
        MLIPCalculator(unit, inference_settings="turbo")
    turbo = MLIPCalculator(unit.potential, inference_settings="turbo")
    assert turbo.predict_unit.settings.merge_mole
    by_ase = InferenceSettings(internal_graph_gen_version=1)
    calculator = MLIPCalculator(unit.potential, inference_settings=by_ase)
    assert calculator.neighbors.backend == "ase"


def test_from_checkpoint_gives_the_reference_numbers(shared):
    """H2O with charge -1 and spin 2: shared/reference/uma.md, section 2.5."""
    path = shared / "reference" / "uma_tiny" / "tiny_uma.pt"
    reference = json.loads((path.parent / "reference_tiny_uma.json").read_text())
    system = reference["systems"]["water_anion_omol"]
    atoms = Atoms(system["numbers"], system["positions"])
    atoms.calc = MLIPCalculator.from_checkpoint(
        path, "omol", "high-precision", charge=-1, spin=2, skin=0.1
    )
    assert atoms.calc.predict_unit.dtype == torch.float64
    assert atoms.calc.neighbors.skin == 0.1
    assert atoms.get_potential_energy() == pytest.approx(-1.5366522580883202, abs=1e-9)


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 1, 0), (0, 1, 0), (0, 0, 0)])
def test_stress_is_the_strain_derivative_for_any_periodicity(unit, pbc):
    atoms = crystal()
    atoms.pbc = pbc
    atoms.calc = MLIPCalculator(unit)
    # Across a direction that is not periodic, straining the cell moves the atoms all the same.
    numeric = calculate_numerical_stress(atoms, eps=1e-5)
    np.testing.assert_allclose(atoms.get_stress(), numeric, atol=1e-9)
    np.testing.assert_allclose(
        atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-7
    )


def test_stresses_of_atoms_sum_up_to_the_stress(unit):
    atoms = crystal()
    atoms.calc = MLIPCalculator(unit)
    stresses = atoms.get_stresses()
    assert stresses.shape == (len(atoms), 6)
    np.testing.assert_allclose(stresses.sum(0), atoms.get_stress(), atol=1e-14)


def test_hessian_is_the_second_derivative(unit):
    atoms = molecule("CH3OH")
    atoms.calc = MLIPCalculator(unit)
    hessian = atoms.calc.get_hessian(atoms)
    assert hessian.shape == (18, 18)
    columns = []
    for k in range(18):
        forces = []
        for sign in (1, -1):
            moved = molecule("CH3OH")
            moved.positions.flat[k] += sign * 1e-4
            moved.calc = MLIPCalculator(unit)
            forces.append(moved.get_forces().ravel())
        columns.append((forces[1] - forces[0]) / 2e-4)
    np.testing.assert_allclose(hessian, np.array(columns).T, rtol=1e-6, atol=1e-5)


def test_only_what_is_missing_is_computed(unit, monkeypatch):
    asked = []
    predict = unit.predict
    monkeypatch.setattr(
        unit, "predict", lambda data, names: asked.append(list(names)) or predict(data, names)
    )
    atoms = crystal()
    atoms.calc = MLIPCalculator(unit)
    energy = atoms.get_potential_energy()
    atoms.get_forces()
    atoms.get_stress()
    assert asked == [["energy", "energies", "forces", "stress"]]
    atoms.get_stresses()
    assert asked[1:] == [["virials"]]
    assert atoms.get_potential_energy() == energy
    water = molecule("H2O")
    water.calc = MLIPCalculator(unit)
    water.get_forces()
    assert asked[2:] == [["energy", "energies", "forces"]]


def test_an_error_leaves_the_calculator_as_it_was(unit):
    atoms = crystal()
    calculator = MLIPCalculator(unit)
    atoms.calc = calculator
    good = atoms.get_potential_energy()
    broken = crystal()
    broken.positions[3] = np.nan
    with pytest.raises(ValueError, match="position of atom 3"):
        calculator.calculate(broken, ["energy"])
    assert calculator.atoms == atoms
    assert calculator.results["energy"] == good
    broken = crystal()
    broken.numbers[0] = 92
    with pytest.raises(OutOfDomainError, match="U, which"):
        calculator.get_potential_energy(broken)
    assert calculator.results == {}
    assert atoms.get_potential_energy() == good


def test_charge_and_spin_as_arguments(unit):
    atoms = molecule("H2O")
    atoms.calc = MLIPCalculator(unit, charge=1)
    info = molecule("H2O")
    info.info["charge"] = 1
    info.calc = MLIPCalculator(unit)
    assert atoms.get_potential_energy() == info.get_potential_energy()
    assert atoms.info == {}
    assert atoms.calc.todict()["charge"] == 1
    info.calc = MLIPCalculator(unit, charge=0)
    with pytest.raises(DataError, match=r"charge 1 in atoms\.info.*charge=0.*one place"):
        info.get_potential_energy()
    with pytest.raises(DataError, match=r"spin = 1\.5"):
        MLIPCalculator(unit, spin=1.5)


def test_changed_atoms_are_noticed_whatever_changed(unit):
    calculator = MLIPCalculator(unit)
    atoms = crystal()
    variants = [atoms, *(atoms.copy() for _ in range(5))]
    variants[1].numbers[2] = 14
    variants[2].pbc = (True, False, True)
    variants[3].set_cell(1.02 * atoms.cell, scale_atoms=True)
    variants[4].info["charge"] = 1
    del variants[5][3]
    for variant in (*variants, *reversed(variants)):
        fresh = variant.copy()
        fresh.calc = MLIPCalculator(unit, skin=0.0)
        assert calculator.get_potential_energy(variant) == fresh.get_potential_energy()


def test_molecular_dynamics_with_atoms_wrapped_each_step(unit):
    energies = []
    for wrap in (False, True):
        atoms = crystal()
        atoms.set_momenta(5.0 * np.random.default_rng(3).standard_normal((len(atoms), 3)))
        atoms.calc = MLIPCalculator(unit)
        dynamics = VelocityVerlet(atoms, 2 * units.fs)
        for _ in range(30):
            dynamics.run(1)
            if wrap:
                atoms.wrap()
        energies.append(atoms.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=1e-9)
