from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from ase.stress import voigt_6_to_full_3x3_stress

from adatom.core.errors import ConfigError, DataError, MissingLabelError, UnknownNameError
from adatom.data import AtomicData, from_ase, to_ase


def labelled(atoms: Atoms, **results: object) -> Atoms:
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def test_positions_are_not_wrapped_and_nothing_is_mutated():
    atoms = bulk("Cu", cubic=True)
    atoms.positions[0] = [-3.0, 10.0, 0.1]
    atoms.info = {"charge": 1, "note": "x"}
    info, positions = dict(atoms.info), atoms.positions.copy()
    data = from_ase(atoms)
    np.testing.assert_array_equal(data.pos, positions)
    data.pos += 1.0
    np.testing.assert_array_equal(atoms.positions, positions)
    assert atoms.info == info
    assert data.pos.dtype == data.cell.dtype == torch.float64


def test_defaults():
    data = from_ase(molecule("H2O"))
    assert data.charge.tolist() == [0]
    assert data.spin.tolist() == [0]
    assert data.dataset == ["default"]
    assert data.sid == ["H2O"]
    assert data.labels == {}
    assert not data.pbc.any()


@pytest.mark.parametrize("kind", [int, np.int64, np.float32, lambda x: np.array([float(x)])])
def test_charge_and_spin_are_read_without_being_asked(kind):
    atoms = molecule("OH")
    atoms.info = {"charge": kind(-1), "spin": kind(2)}
    data = AtomicData.from_ase(atoms)
    assert (int(data.charge), int(data.spin)) == (-1, 2)


@pytest.mark.parametrize(
    "info",
    [
        {"charge": 0.5},
        {"charge": 101},
        {"charge": float("nan")},
        {"charge": True},
        {"charge": "minus one"},
        {"charge": [0, 1]},
        {"spin": -1},
        {"spin": 101},
    ],
)
def test_bad_charge_or_spin_names_the_structure(info):
    atoms = molecule("OH")
    atoms.info = info
    with pytest.raises(DataError, match=r"'mine'.*whole number"):
        from_ase(atoms, sid="mine")


def test_unpaired_electrons_become_a_multiplicity():
    atoms = molecule("CH2_s3B1d")
    atoms.info = {"total_charge": 0.0, "n_alpha_minus_beta": 2}
    data = from_ase(
        atoms, key_map={"charge": "total_charge", "unpaired_electrons": "n_alpha_minus_beta"}
    )
    assert int(data.spin) == 3


@pytest.mark.parametrize("key", ["total_charge", "multiplicity", "spin_multiplicity"])
def test_a_look_alike_is_never_ignored(key):
    atoms = molecule("OH")
    atoms.info = {key: 2}
    with pytest.raises(DataError, match=f"'{key}' but no.*key_map"):
        from_ase(atoms)


def test_wrong_key_maps():
    with pytest.raises(UnknownNameError, match="did you mean 'charge'"):
        from_ase(molecule("OH"), key_map={"charg": "q"})
    with pytest.raises(ConfigError, match="both"):
        from_ase(molecule("OH"), key_map={"spin": "a", "unpaired_electrons": "b"})
    with pytest.raises(DataError, match=r"no 'q'.*key_map.charge"):
        from_ase(molecule("OH"), key_map={"charge": "q"})


def test_constraints_and_tags():
    slab = fcc111("Cu", (2, 2, 3), vacuum=5.0)
    slab.set_constraint([FixAtoms(indices=[0, 1]), FixCartesian([2]), FixCartesian([3], [1, 0, 0])])
    data = from_ase(slab)
    assert data.fixed.nonzero().ravel().tolist() == [0, 1, 2]
    assert data.tags.tolist() == slab.get_tags().tolist()
    assert to_ase(data)[0].constraints[0].get_indices().tolist() == [0, 1, 2]


def test_constraints_do_not_zero_force_labels():
    forces = np.full((3, 3), 0.5)
    atoms = labelled(molecule("H2O"), forces=forces)
    atoms.set_constraint(FixAtoms([0]))
    np.testing.assert_array_equal(from_ase(atoms).labels["forces"], forces)


def test_results_of_a_calculator_are_labels():
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.rattle(0.1, seed=0)
    atoms.calc = EMT()
    assert from_ase(atoms).labels == {}  # nothing is computed
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    labels = from_ase(atoms).labels
    assert labels["energy"].tolist() == [energy]
    assert labels["energy"].dtype == torch.float64
    np.testing.assert_array_equal(labels["forces"], forces)
    np.testing.assert_allclose(labels["stress"][0], voigt_6_to_full_3x3_stress(stress))
    assert from_ase(atoms, label_keys={}).labels == {}


def test_results_of_other_positions_are_not_labels():
    atoms = labelled(molecule("H2O"), energy=-1.0)
    atoms.positions += 0.1 * np.arange(3)[:, None]
    assert from_ase(atoms).labels == {}
    with pytest.raises(MissingLabelError):
        from_ase(atoms, required=["energy"])


def test_sid():
    atoms = molecule("H2O")
    atoms.info = {"sid": "random7", "fid": 12}
    assert from_ase(atoms).sid == ["random7-frame-12"]
    assert from_ase(atoms, sid="mine").sid == ["mine"]
    atoms.info = {"name": "w1"}
    assert from_ase(atoms, key_map={"sid": "name"}).sid == ["w1"]


def test_round_trip():
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.pbc = [True, False, True]
    atoms.info = {"charge": 1, "spin": 2, "sid": "salt"}
    atoms.set_tags([0, 2])
    stress = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    labelled(atoms, energy=-3.0, forces=np.eye(2, 3), stress=stress)
    once = from_ase(atoms, dataset="omat")
    back = to_ase(once)[0]
    twice = from_ase(back, dataset="omat")
    assert back.info["dataset"] == "omat"
    np.testing.assert_allclose(back.get_stress(), stress)
    for name in ("pos", "cell", "pbc", "charge", "spin", "tags", "fixed", "atomic_numbers"):
        assert torch.equal(getattr(once, name), getattr(twice, name)), name
    assert once.labels.keys() == twice.labels.keys()
    for name, value in once.labels.items():
        torch.testing.assert_close(twice.labels[name], value)
    assert twice.sid == ["salt"]


def test_positions_in_bohr():
    atoms = molecule("H2O")
    data = from_ase(atoms, units={"length": "Bohr"})
    np.testing.assert_allclose(data.pos, atoms.positions * 0.52917721, rtol=1e-7)
