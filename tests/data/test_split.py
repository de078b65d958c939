"""Splits: sizes, groups kept together, blocks, hashes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ase.build import molecule

from adatom.core.errors import ConfigError, DataError, UnknownNameError
from adatom.data.ase_convert import from_ase
from adatom.data.split import load_split, save_split, split_indices

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
SOURCE = {"sha256": "ab" * 32, "count": 23}


def anything(count: int) -> list[None]:
    return [None] * count


def test_random_split_is_complete_disjoint_and_seeded() -> None:
    parts = split_indices(anything(23), SHARES, seed=7)
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 19, "val": 2, "test": 2}
    assert sorted(i for rows in parts.values() for i in rows) == list(range(23))
    assert parts == split_indices(anything(23), SHARES, seed=7)
    assert parts != split_indices(anything(23), SHARES, seed=8)


def test_fractions_below_one_leave_structures_out() -> None:
    parts = split_indices(anything(100), {"train": 0.5, "val": 0.1})
    assert [len(rows) for rows in parts.values()] == [50, 10]


@pytest.mark.parametrize("as_function", [False, True])
def test_groups_stay_together(*, as_function: bool) -> None:
    names = [i // 5 for i in range(100)]
    groups = (lambda i: names[i]) if as_function else names
    parts = split_indices(anything(100), SHARES, method="group", groups=groups, seed=1)
    seen = [{names[i] for i in rows} for rows in parts.values()]
    assert [len(s) for s in seen] == [16, 2, 2]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 20


def test_compositions_stay_together() -> None:
    kinds = ["H2O", "CH4", "NH3", "C2H6", "CO2", "N2", "O2", "HCN", "CH3OH", "CH3CH2OH"]
    systems = [from_ase(molecule(kinds[i % 10]), sid=str(i)) for i in range(60)]
    parts = split_indices(systems, {"train": 0.8, "test": 0.2}, method="composition")
    assert not {i % 10 for i in parts["train"]} & {i % 10 for i in parts["test"]}
    assert len(parts["train"]) == 48


def test_trajectories_are_cut_into_blocks_with_a_gap() -> None:
    parts = split_indices(anything(110), SHARES, method="trajectory", gap=5)
    assert parts["train"] == list(range(80))
    assert parts["val"] == list(range(85, 95))
    assert parts["test"] == list(range(100, 110))
    names = ["a"] * 50 + ["b"] * 50
    parts = split_indices(anything(100), SHARES, method="trajectory", groups=names)
    assert parts["test"] == [*range(45, 50), *range(95, 100)]


def test_impossible_requests() -> None:
    with pytest.raises(ConfigError, match="at most 1"):
        split_indices(anything(9), {"train": 0.9, "val": 0.2})
    with pytest.raises(DataError, match=r"'val'.*empty"):
        split_indices(anything(3), {"train": 0.98, "val": 0.02})
    with pytest.raises(DataError, match="empty"):
        split_indices(anything(9), SHARES, method="group", groups=["one"] * 9)
    with pytest.raises(ConfigError, match="8 groups for 9"):
        split_indices(anything(9), SHARES, method="group", groups=list(range(8)))
    with pytest.raises(ConfigError, match="group"):
        split_indices(anything(9), SHARES, method="group")
    with pytest.raises(UnknownNameError, match="'trajectory'"):
        split_indices(anything(9), SHARES, method="trajektory")  # type: ignore[arg-type]


def test_saved_splits_are_verified(tmp_path: Path) -> None:
    parts = split_indices(anything(23), SHARES)
    file = tmp_path / "split.json"
    save_split(file, parts, source=SOURCE, recipe={"seed": 0})
    assert load_split(file) == load_split(file, source=SOURCE) == parts
    with pytest.raises(DataError, match="other data"):
        load_split(file, source=SOURCE | {"sha256": "cd" * 32})
    document = json.loads(file.read_text())
    document["splits"]["train"]["indices"][0] += 1
    file.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"'train'.*hash"):
        load_split(file)
    file.write_text("[1, 2]")
    with pytest.raises(DataError, match="not a split"):
        load_split(file)
    save_split(file, {"a": [1, 2], "b": [2]}, source=SOURCE)
    with pytest.raises(DataError, match="repeats"):
        load_split(file)
