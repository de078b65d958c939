"""Batches: packed by any limit, shared out over processes, repeatable and resumable."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from adatom.core.errors import ConfigError, DataError
from adatom.data.atomic_data import AtomicData
from adatom.training.batch_loader import BatchLoader, without_labels
from adatom.training.batching import Balance, BatchLimits, BatchPlan, StructureSizes
from adatom.training.sharing import share_out


def chain(length: int, sid: str) -> AtomicData:
    positions = [[1.0 * i, 0.0, 0.0] for i in range(length)]
    return AtomicData.from_ase(Atoms("H" * length, positions), sid=sid).with_edges(1.1)


SYSTEMS = [chain(1 + i % 5, f"chain{i}") for i in range(23)]


SIZES = StructureSizes.of(SYSTEMS)


@pytest.mark.parametrize(
    "limits",
    [BatchLimits(systems=4), BatchLimits(atoms=9), BatchLimits(edges=10, systems=3)],
)
def test_every_structure_is_in_one_batch_of_each_epoch(limits: BatchLimits) -> None:
    plan = BatchPlan(SIZES, limits, seed=3)
    epochs = [[batch.tolist() for batch in plan.batches(epoch)] for epoch in (0, 1)]
    for batches in epochs:
        assert sorted(row for batch in batches for row in batch) == list(range(23))
        for batch in batches:
            assert limits.systems is None or len(batch) <= limits.systems
            assert limits.atoms is None or sum(SYSTEMS[i].num_atoms for i in batch) <= limits.atoms
    assert [set(batch) for batch in epochs[0]] != [set(batch) for batch in epochs[1]]
    again = BatchPlan(SIZES, limits, seed=3).batches(1)
    assert [batch.tolist() for batch in again] == epochs[1]


def test_an_oversized_structure_is_named() -> None:
    with pytest.raises(DataError, match=r"'chain4' has 5 atoms.*max_atoms = 4"):
        BatchPlan(SIZES, BatchLimits(atoms=4), seed=0)
    plan = BatchPlan(SIZES, BatchLimits(atoms=4), None, allow_oversize=True)
    assert [4] in [batch.tolist() for batch in plan.batches(0)]
    with pytest.raises(ConfigError, match="batch_size is 0"):
        BatchLimits(systems=0)


def test_loader_starts_where_it_is_told() -> None:
    plan = BatchPlan(SIZES, BatchLimits(systems=5), seed=1)
    whole = [batch.sid for batch in BatchLoader(SYSTEMS, plan, lambda: (2, 0))]
    rest = [batch.sid for batch in BatchLoader(SYSTEMS, plan, lambda: (2, 3))]
    assert rest == whole[3:]


def test_sampler_state_replaces_the_position_once() -> None:
    plan = BatchPlan(SIZES, BatchLimits(systems=5), seed=1)
    loader = BatchLoader(SYSTEMS, plan)
    epochs = [[batch.sid for batch in loader] for _ in range(3)]
    again = BatchLoader(SYSTEMS, plan)
    again.set_sampler_state(1, 2)
    assert [batch.sid for batch in again] == epochs[1][2:]
    assert [batch.sid for batch in again] == epochs[2]


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize(
    ("one", "several"),
    [("systems", 3), ("atoms", 9), ("edges", 10)],
)
def test_processes_share_the_batch_of_one(world: int, one: str, several: int) -> None:
    whole = BatchPlan(SIZES, BatchLimits(**{one: world * several}), seed=3)
    shared = BatchPlan(SIZES, BatchLimits(**{one: several}), seed=3)
    for epoch in (0, 1):
        steps = whole.batches(epoch)
        ranks = [shared.batches(epoch, rank, world) for rank in range(world)]
        assert {len(batches) for batches in ranks} == {len(steps)} == {shared.count(epoch, world)}
        for step, *shares in zip(steps, *ranks, strict=True):
            assert sorted(step) == sorted(row for share in shares for row in share)
            if one == "systems":
                assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("began", "now"), [(2, 1), (1, 2), (4, 2), (3, 2), (2, 3), (2, 2)])
def test_another_number_of_processes_keeps_the_steps(began: int, now: int) -> None:
    limits = BatchLimits(systems=2)
    before = BatchPlan(SIZES, limits, seed=3)
    after = BatchPlan(SIZES, limits, seed=3, planned_world=began)
    turns = after.turns(now)
    for epoch in (0, 1):
        steps = [before.batches(epoch, rank, began) for rank in range(began)]
        found = [after.batches(epoch, rank, now) for rank in range(now)]
        assert {len(batches) for batches in found} == {after.count(epoch, now)}
        assert after.count(epoch, now) == turns * before.count(epoch, began)
        for step in range(before.count(epoch, began)):
            old = [row for batches in steps for row in batches[step]]
            mine = [batches[step * turns : (step + 1) * turns] for batches in found]
            assert sorted(old) == sorted(row for each in mine for share in each for row in share)


def test_no_process_waits_long_for_another() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 200, size=4000)
    table = StructureSizes(sizes, sizes * 40, str)
    plan = BatchPlan(table, BatchLimits(atoms=2000), seed=0)
    ranks = [plan.batches(0, rank, 8) for rank in range(8)]
    loads = np.array([[sizes[rows].sum() for rows in batches[:-1]] for batches in ranks])
    assert (loads.max(axis=0) / loads.mean(axis=0)).max() < 1.02
    assert loads.max() < 1.02 * 2000


def test_shares_are_even_in_number_if_asked() -> None:
    shares = share_out(np.array([100, 1, 1, 1, 1, 1]), 2, most=3)
    assert [len(share) for share in shares] == [3, 3]
    shares = share_out(np.array([100, 1, 1, 1, 1, 1]), 2)
    assert [share.tolist() for share in shares] == [[0], [1, 2, 3, 4, 5]]
    assert [share.tolist() for share in share_out(np.array([0, 0, 0]), 3)] == [[0], [1], [2]]


def test_a_process_without_structures_gets_one_that_counts_nothing() -> None:
    systems = [chain(2, "a"), chain(3, "b")]
    for system in systems:
        system.labels["forces"] = 0.0 * system.pos
    plan = BatchPlan(StructureSizes.of(systems), BatchLimits(systems=1), None)
    batches = [list(BatchLoader(systems, plan, rank=rank, world=3)) for rank in range(3)]
    assert [len(each) for each in batches] == [1, 1, 1]
    assert [each[0].labels["forces"].isnan().all().item() for each in batches] == [
        False,
        False,
        True,
    ]
    assert not without_labels(systems[0]).labels["forces"].isfinite().any()
    assert systems[0].labels["forces"].isfinite().all()


def test_edges_must_be_counted_for_a_limit_on_them() -> None:
    with pytest.raises(ConfigError, match="edges have not been counted"):
        BatchPlan(StructureSizes(SIZES.atoms, None, str), BatchLimits(edges=9), seed=0)


def test_processes_get_what_is_balanced_alike() -> None:
    atoms = np.array([10, 2, 10, 2])
    edges = np.array([9, 90, 90, 9])
    sizes = StructureSizes(atoms, edges, str)

    def loads(balance: Balance | None, of: np.ndarray) -> list[int]:
        plan = BatchPlan(sizes, BatchLimits(systems=2), None, balance=balance)
        return sorted(int(of[plan.batches(0, rank, 2)[0]].sum()) for rank in (0, 1))

    assert loads("systems", atoms) == [4, 20]
    assert loads("atoms", atoms) == [12, 12]
    assert loads("edges", edges) == loads(None, edges) == [99, 99]
    unknown = StructureSizes(atoms, None, str)
    with pytest.raises(ConfigError, match="balance: edges is set, but the edges"):
        BatchPlan(unknown, BatchLimits(systems=4), None, balance="edges")
