from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr, GPa, Hartree

from adatom.core.errors import DataError, MissingLabelError, UnknownNameError
from adatom.data import from_ase

FORCES = np.arange(6.0).reshape(2, 3)


@pytest.fixture
def atoms() -> Atoms:
    return bulk("Si", a=5.43)


@pytest.mark.parametrize("key", ["energy", "REF_energy", "dft_energy", "TotEnergy", "Energy"])
def test_usual_energy_keys(atoms, key):
    atoms.info[key] = -2.5
    assert from_ase(atoms).labels["energy"].tolist() == [-2.5]


@pytest.mark.parametrize("key", ["forces", "force", "REF_forces", "DFT_forces"])
def test_usual_force_keys(atoms, key):
    atoms.arrays[key] = FORCES
    np.testing.assert_array_equal(from_ase(atoms).labels["forces"], FORCES)


def test_two_keys_that_agree_are_one_label(atoms):
    atoms.info |= {"energy": -2.5, "REF_energy": -2.5 + 1e-9}
    assert from_ase(atoms).labels["energy"].tolist() == [-2.5]


def test_two_keys_that_differ_need_a_choice(atoms):
    atoms.info["REF_energy"] = -3.0
    atoms.calc = SinglePointCalculator(atoms, energy=-2.5)
    with pytest.raises(DataError, match=r"'energy' .*'REF_energy' .*label_keys.energy=REF_energy"):
        from_ase(atoms, sid="a")
    assert from_ase(atoms, label_keys={"energy": "REF_energy"}).labels["energy"].tolist() == [-3.0]
    assert from_ase(atoms, label_keys={"energy": "energy"}).labels["energy"].tolist() == [-2.5]


def test_only_named_labels_are_read(atoms):
    atoms.info["energy"] = -2.5
    atoms.arrays["forces"] = FORCES
    assert list(from_ase(atoms, label_keys={"energy": "energy"}).labels) == ["energy"]


def test_a_minus_makes_gradients_forces(atoms):
    atoms.arrays["gradient"] = FORCES
    labels = from_ase(atoms, label_keys={"forces": "-gradient"}).labels
    np.testing.assert_array_equal(labels["forces"], -FORCES)


def test_missing_label_lists_the_keys_that_are_there(atoms):
    atoms.info |= {"REF_enrgy": -2.5, "temperature": 300}
    with pytest.raises(
        MissingLabelError, match=r"'s1' has no label 'energy'.*REF_enrgy, temperature"
    ):
        from_ase(atoms, sid="s1", required=["energy"])
    with pytest.raises(MissingLabelError, match=r"key 'REF_energy'; did you mean 'REF_enrgy'"):
        from_ase(atoms, label_keys={"energy": "REF_energy"})


def test_unknown_label_names(atoms):
    with pytest.raises(UnknownNameError, match="did you mean 'forces'"):
        from_ase(atoms, required=["force"])
    with pytest.raises(UnknownNameError, match="did you mean 'energy'"):
        from_ase(atoms, label_keys={"enery": "x"})


def test_virial_is_minus_volume_times_stress(atoms):
    virial = np.diag([1.0, 2.0, 3.0])
    atoms.info["virial"] = virial
    labels = from_ase(atoms, required=["stress"]).labels
    np.testing.assert_allclose(labels["stress"][0], -virial / atoms.get_volume())
    assert "virial" not in labels


def test_stress_and_virial_must_agree(atoms):
    virial = np.diag([1.0, 2.0, 3.0])
    atoms.info |= {"virial": virial, "stress": -virial / atoms.get_volume()}
    assert "stress" in from_ase(atoms).labels
    atoms.info["stress"] = virial / atoms.get_volume()
    with pytest.raises(DataError, match=r"disagree.*label_keys.virial"):
        from_ase(atoms)
    with pytest.raises(DataError, match="both a stress and a virial"):
        from_ase(atoms, label_keys={"stress": "stress", "virial": "virial"})


def test_virial_without_a_cell():
    molecule = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])
    molecule.info["virial"] = np.eye(3)
    with pytest.raises(DataError, match="virial but no cell"):
        from_ase(molecule)


@pytest.mark.parametrize(
    ("value", "row"),
    [
        (np.array([1.0, 2, 3, 4, 5, 6]), [[1, 6, 5], [6, 2, 4], [5, 4, 3]]),
        (np.array([1.0, 6, 5, 6, 2, 4, 5, 4, 3]), [[1, 6, 5], [6, 2, 4], [5, 4, 3]]),
    ],
)
def test_forms_of_stress(atoms, value, row):
    atoms.info["stress"] = value
    np.testing.assert_array_equal(from_ase(atoms).labels["stress"][0], row)


@pytest.mark.parametrize(
    ("place", "key", "value", "message"),
    [
        ("arrays", "forces", np.zeros((2, 2)), r"forces of shape \(2, 2\).*\(2, 3\)"),
        ("info", "forces", np.zeros(6), r"forces of shape \(6,\)"),
        ("info", "energy", [1.0, 2.0], "Expected one number"),
        ("info", "energy", "n/a", "energy = 'n/a'.*numbers"),
        ("info", "stress", np.zeros(5), r"stress of shape \(5,\)"),
        ("info", "stress", np.triu(np.ones((3, 3))), "not symmetric"),
        ("info", "energy", np.nan, "NaN or infinite numbers in its label 'energy'"),
        ("arrays", "forces", np.full((2, 3), np.inf), "label 'forces'"),
    ],
)
def test_bad_labels_name_the_structure(atoms, place, key, value, message):
    getattr(atoms, place)[key] = value
    with pytest.raises(DataError, match=r"'bad one'.*" + message):
        from_ase(atoms, sid="bad one")


def test_units_given_by_the_user(atoms):
    atoms.info |= {"energy": 1.0, "stress": np.eye(3)}
    atoms.arrays["forces"] = FORCES
    units = {"energy": "Hartree", "forces": "Ha/Bohr", "stress": "GPa"}
    labels = from_ase(atoms, units=units).labels
    assert labels["energy"].item() == pytest.approx(Hartree, rel=1e-12)
    np.testing.assert_allclose(labels["forces"], FORCES * Hartree / Bohr)
    np.testing.assert_allclose(labels["stress"][0], np.eye(3) * GPa)


def test_units_declared_by_the_structure(atoms):
    atoms.info |= {"energy": 1.0, "energy_unit": "kcal/mol", "forces_unit": "kcal/mol/Angstrom"}
    atoms.arrays["forces"] = FORCES
    labels = from_ase(atoms).labels
    assert labels["energy"].item() == pytest.approx(0.0433641, rel=1e-5)
    np.testing.assert_allclose(labels["forces"], FORCES * labels["energy"].item())


def test_a_virial_has_the_unit_of_the_energy(atoms):
    atoms.info["virial"] = np.eye(3)
    stress = from_ase(atoms, units={"energy": "Ha"}).labels["stress"][0]
    np.testing.assert_allclose(stress, -np.eye(3) * Hartree / atoms.get_volume())


def test_mixed_units_are_refused(atoms):
    atoms.info["energy"] = 1.0
    atoms.arrays["forces"] = FORCES
    with pytest.raises(DataError, match=r"Mixed units.*no unit is given for its forces"):
        from_ase(atoms, units={"energy": "Ha"})
    atoms.info["energy_unit"] = "eV"
    with pytest.raises(DataError, match=r"Mixed units.*'eV'.*'Ha'"):
        from_ase(atoms, units={"energy": "Ha", "forces": "Ha/Bohr"})


def test_unknown_units(atoms):
    with pytest.raises(UnknownNameError, match="eV"):
        from_ase(atoms, units={"energy": "ev"})
    with pytest.raises(UnknownNameError, match="did you mean 'energy'"):
        from_ase(atoms, units={"energi": "eV"})
    atoms.info |= {"energy": 1.0, "energy_unit": "furlong"}
    with pytest.raises(DataError, match="'furlong', which is not a known energy unit"):
        from_ase(atoms)
