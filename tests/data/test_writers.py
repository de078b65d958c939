from __future__ import annotations

import pytest
import torch
from ase.build import bulk, molecule

from adatom.core.errors import DataError, FileAccessError
from adatom.data import collate, from_ase, open_dataset, with_predictions, write_structures


@pytest.fixture
def batch():
    water, copper = molecule("OH"), bulk("Cu")
    water.info |= {"charge": -1, "spin": 1}
    systems = [from_ase(water, sid="w"), from_ase(copper, sid="c")]
    return collate(systems)


@pytest.fixture
def predicted(batch):
    stress = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
    stress[0] = torch.nan
    return with_predictions(
        batch,
        {
            "energy": torch.tensor([-1.5, -2.5], dtype=torch.float64, requires_grad=True),
            "forces": torch.full((3, 3), 0.25),
            "stress": stress,
        },
    )


@pytest.mark.parametrize("ending", ["extxyz", "xyz", "db"])
def test_what_is_written_can_be_read(tmp_path, predicted, ending):
    path = tmp_path / "new" / f"out.{ending}"
    info = [
        {"config_type": "a", "energy": 7.0, "energy_unit": "Ha", "virial": torch.eye(3).numpy()},
        {"config_type": "b", "sid": "old"},
    ]
    assert write_structures(path, [predicted], info=info) == 2
    data = open_dataset(path)
    assert [s.sid[0] for s in data] == ["w", "c"]
    assert [s.labels["energy"].item() for s in data] == [-1.5, -2.5]
    assert [sorted(s.labels) for s in data] == [
        ["energy", "forces"],
        ["energy", "forces", "stress"],
    ]
    assert (int(data[0].charge), int(data[0].spin)) == (-1, 1)
    assert [data.info(i)["config_type"] for i in range(2)] == ["a", "b"]
    assert data[1].labels["forces"].tolist() == [[0.25] * 3]


def test_predictions_leave_the_input_alone(batch, predicted):
    assert batch.labels == {}
    assert not predicted.labels["energy"].requires_grad


def test_a_failure_leaves_the_old_file(tmp_path, batch):
    path = tmp_path / "out.xyz"
    path.write_text("precious")
    with pytest.raises(DataError, match="info entries"):
        write_structures(path, [batch], info=[{}])
    with pytest.raises(DataError, match="no structure"):
        write_structures(path, [])
    assert path.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["out.xyz"]


def test_unwritable_or_unknown_output(tmp_path, batch):
    with pytest.raises(DataError, match=r"\.extxyz, \.xyz, \.db"):
        write_structures(tmp_path / "out.cif", [batch])
    (tmp_path / "x.xyz").mkdir()
    with pytest.raises(FileAccessError, match="folder"):
        write_structures(tmp_path / "x.xyz", [batch])
