from __future__ import annotations

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from adatom.core.errors import DataError
from adatom.data import AtomicData, collate, from_ase


@pytest.fixture
def systems() -> list[AtomicData]:
    water, copper, ion = molecule("H2O"), bulk("Cu"), Atoms("Na", info={"charge": 1, "spin": 1})
    water.calc = SinglePointCalculator(water, energy=-1.0, forces=water.positions)
    copper.calc = SinglePointCalculator(copper, energy=-2.0, stress=[1.0, 2, 3, 4, 5, 6])
    return [
        from_ase(atoms, sid=f"s{i}", dataset=name)
        for i, (atoms, name) in enumerate([(water, "a"), (copper, "b"), (ion, "a")])
    ]


def assert_same(one: AtomicData, two: AtomicData) -> None:
    for name in AtomicData.__slots__:
        left, right = getattr(one, name), getattr(two, name)
        if isinstance(left, torch.Tensor):
            torch.testing.assert_close(left, right, rtol=0, atol=0)
        elif name == "labels":
            assert left.keys() == right.keys()
            for label in left:
                torch.testing.assert_close(
                    left[label], right[label], rtol=0, atol=0, equal_nan=True
                )
        elif name == "edges":
            assert (left is None) == (right is None)
            for part in ("index", "offsets", "counts") if left is not None else ():
                assert torch.equal(getattr(left, part), getattr(right, part)), part
        else:
            assert left == right, name


def test_collate_and_unbatch_are_inverse(systems):
    batch = collate(systems)
    assert batch.num_systems == 3
    assert batch.num_atoms == 5
    assert batch.batch.tolist() == [0, 0, 0, 1, 2]
    assert batch.natoms.tolist() == [3, 1, 1]
    assert batch.charge.tolist() == [0, 0, 1]
    assert batch.dataset == ["a", "b", "a"]
    for one, two in zip(systems, batch.unbatch(), strict=True):
        assert_same(one, two)


def test_with_edges_too(systems):
    with_edges = [system.with_edges(3.0) for system in systems]
    batch = collate(with_edges)
    assert_same(batch, collate(systems).with_edges(3.0))
    for one, two in zip(with_edges, batch.unbatch(), strict=True):
        assert_same(one, two)
    assert collate([with_edges[0], systems[1]]).edges is None


def test_missing_labels_are_nan_and_vanish_again(systems):
    labels = collate(systems).labels
    assert labels["energy"].isnan().tolist() == [False, False, True]
    assert labels["forces"].shape == (5, 3)
    assert labels["forces"].isnan().any(1).tolist() == [False, False, False, True, True]
    assert labels["stress"].isnan().flatten(1).any(1).tolist() == [True, False, True]


def test_batches_of_batches(systems):
    nested = collate([collate(systems[:2]), systems[2]])
    assert_same(nested, collate(systems))


def test_collate_leaves_its_input_alone(systems):
    before = [system.pos.clone() for system in systems]
    batch = collate(systems)
    batch.pos += 1.0
    batch.labels["energy"] += 1.0
    assert all(torch.equal(s.pos, p) for s, p in zip(systems, before, strict=True))
    assert systems[0].labels["energy"].tolist() == [-1.0]


def test_nothing_to_batch():
    with pytest.raises(DataError, match="at least one"):
        collate([])


def test_to_ase_of_a_batch(systems):
    frames = collate(systems).to_ase()
    assert [len(atoms) for atoms in frames] == [3, 1, 1]
    assert frames[2].calc is None
    assert frames[2].info["charge"] == 1
    assert "forces" not in frames[1].calc.results
