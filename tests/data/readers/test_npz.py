from __future__ import annotations

import numpy as np
import pytest
import torch

from adatom.core.errors import DataError
from adatom.data import open_dataset

POS = np.random.default_rng(0).normal(size=(5, 3, 3)) * 3


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_qm7x(shared):
    data = open_dataset(
        shared / "data/qm7x_250/qm7x_250_small.npz",
        key_map={"atomic_numbers": "z", "pos": "R", "energy": "E", "forces": "F"},
        required=["energy", "forces"],
    )
    assert len(data) == 2500
    sizes = {s.num_atoms for s in data}
    assert (min(sizes), max(sizes)) == (4, 23)
    assert data.elements() == ["H", "C", "N", "O", "S", "Cl"]
    assert all(s.labels["forces"].shape == s.pos.shape for s in data)
    # Net force vanishes only if the padding was cut off the right rows.
    assert max(float(s.labels["forces"].sum(0).norm()) for s in data) < 0.05


def test_usual_names_are_recognized(tmp_path):
    path = save(
        tmp_path / "a.npz",
        nuclear_charges=np.array([8, 1, 1]),
        coords=POS,
        energies=np.arange(5.0),
        forces=POS,
        name="ethanol",
    )
    data = open_dataset(path)
    assert data.label_keys == {"energy": "energies", "forces": "forces"}
    assert data[3].labels["energy"].tolist() == [3.0]
    assert torch.equal(data[3].pos, torch.from_numpy(POS[3]))


def test_units_declared_as_in_sgdml(tmp_path):
    path = save(
        tmp_path / "a.npz",
        z=[8, 1, 1],
        R=POS,
        E=np.ones((5, 1)),
        F=POS,
        r_unit="Ang",
        e_unit="kcal mol-1",
    )
    labels = open_dataset(path)[0].labels
    assert labels["energy"].item() == pytest.approx(0.0433641, rel=1e-5)
    np.testing.assert_allclose(labels["forces"], POS[0] * labels["energy"].item())


def test_cell_charge_and_other_arrays(tmp_path):
    path = save(
        tmp_path / "a.npz",
        z=[8, 1, 1],
        R=POS,
        box=np.tile((np.eye(3) * 30).reshape(1, 9), (5, 1)),
        charge=[0, 1, 0, 1, 0],
        my_energy=np.arange(5.0),
    )
    data = open_dataset(path, key_map={"energy": "my_energy"})
    assert data[1].charge.tolist() == [1]
    assert data[1].pbc.all()
    assert data[1].cell[0, 2, 2] == 30
    assert data[4].labels["energy"].tolist() == [4.0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": [8, 1, 1], "energy": [1.0]}, "no array for pos.*energy, z.*key_map.pos=NAME"),
        ({"R": POS}, "no array for atomic_numbers"),
        ({"z": [8, 1], "R": POS}, r"shape \(5, 3, 3\) and atomic numbers of shape \(2,\)"),
        ({"z": [8, 1.5, 1], "R": POS}, "not whole numbers"),
        ({"z": [8, 1, 1], "R": POS, "pos": POS}, "several arrays for pos: R, pos"),
        ({"z": [8, 1, 1], "R": POS, "cell": np.ones((4, 3, 3))}, "cell of shape"),
        ({"z": np.array([[8], [1, 1]], dtype=object), "R": POS}, "never loaded"),
    ],
)
def test_wrong_arrays(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        open_dataset(save(tmp_path / "a.npz", **arrays))


def test_wrong_key_map(tmp_path):
    path = save(tmp_path / "a.npz", z=[8, 1, 1], Rxyz=POS)
    with pytest.raises(DataError, match=r"no array 'Rxy'.*did you mean 'Rxyz'"):
        open_dataset(path, key_map={"pos": "Rxy"})


def test_cut_off_file(tmp_path):
    path = save(tmp_path / "a.npz", z=[8, 1, 1], R=POS)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="not a whole"):
        open_dataset(path)
    path.write_bytes(b"something else")
    with pytest.raises(DataError, match=r"a\.npz"):
        open_dataset(path)
