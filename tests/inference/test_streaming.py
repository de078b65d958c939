"""Many structures: input order, the memory of one batch, and memory that runs out."""

from __future__ import annotations

import random
import resource
import sys

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from adatom.core.errors import DataError, OutOfMemoryError
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import collate
from adatom.inference.memory_model import MemoryModel
from adatom.inference.packing import MAX_WINDOW, Item, halves, packed
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.tasks.potential import Potential
from toy_backbone import ToyBackbone, toy_potential

NAMES = ("H2O", "CH4", "CO2", "C6H6", "SiH4")


class ShortOfMemory(ToyBackbone):
    """A toy on a machine that holds a certain number of edges."""

    most = 10**9
    most_lean = 10**9
    error = MemoryError
    seen = ()

    def unavailable(self, mode):
        return None if mode in ("general", "tiled") else "None here."

    def forward(self, data, edges):
        count = len(edges[0].source)
        lean = self.execution.kept_bytes == 0
        self.seen.append((count, data.sid))
        if count > (self.most_lean if lean else self.most):
            raise self.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")
        return super().forward(data, edges)


def short_of_memory(most, *, most_lean=10**9, error=MemoryError):
    toy = toy_potential()
    backbone = ShortOfMemory().double()
    backbone.load_state_dict(toy.backbone.state_dict())
    backbone.most, backbone.most_lean, backbone.error = 10**9, most_lean, error
    backbone.seen = []
    unit = MLIPPredictUnit(Potential(backbone, toy.head, toy.tasks, toy.domains))
    unit.predict(molecule("H2O"))
    # The copy that computes has a list of its own.
    own = unit._runner.engine._unmerged.backbone
    own.most = most
    own.seen.clear()
    return unit, own.seen


def many(count, seed=0):
    draw = random.Random(seed)
    for i in range(count):
        atoms = molecule(draw.choice(NAMES)) if i % 7 else bulk("Cu", a=3.7) * (1 + i % 2, 1, 1)
        atoms.rattle(0.05, seed=i)
        atoms.info["sid"] = f"s{i}"
        yield atoms


def test_results_come_in_input_order_whatever_was_computed_together():
    unit = MLIPPredictUnit(toy_potential())
    found = list(unit.iter_predict(many(60)))
    assert [part.sids for part in found] == [[f"s{i}"] for i in range(60)]
    for part, atoms in zip(found, many(60), strict=True):
        alone = unit.predict(atoms)
        assert set(part) == set(alone)
        for name, value in alone.items():
            torch.testing.assert_close(part[name], value, rtol=0, atol=1e-12)


def test_a_list_a_generator_and_batches_are_the_same():
    unit = MLIPPredictUnit(toy_potential())
    listed = unit.predict(list(many(20)))
    systems = [from_ase(atoms) for atoms in many(20)]
    parts = (collate(systems[:5]), systems[5], collate(systems[6:]))
    for given in (many(20), systems, iter(systems), parts):
        found = unit.predict(given)
        assert found.sids == listed.sids
        assert found.absent == listed.absent
        for name, value in listed.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-12, equal_nan=True)


def test_a_mixed_batch_keeps_its_order():
    unit = MLIPPredictUnit(toy_potential())
    systems = [from_ase(atoms) for atoms in many(20)]
    batch = collate(systems).with_edges(unit.potential.cutoff)
    found, expected = unit.predict(batch), unit.predict(systems)
    torch.testing.assert_close(found["forces"], expected["forces"], rtol=0, atol=1e-12)


def test_structures_of_one_kind_are_computed_next_to_each_other():
    unit, seen = short_of_memory(10**9)
    order = [molecule(name) for name in ("H2O", "CO2", "H2O", "CO2", "H2O")]
    unit.predict(order)
    assert [sid for _, sids in seen for sid in sids] == ["CO2", "CO2", "H2O", "H2O", "H2O"] or (
        [sid for _, sids in seen for sid in sids] == ["H2O", "H2O", "H2O", "CO2", "CO2"]
    )


def test_a_generator_is_asked_only_for_what_is_needed():
    taken = []

    def structures():
        for i, atoms in enumerate(many(5 * MAX_WINDOW)):
            taken.append(i)
            yield atoms

    unit = MLIPPredictUnit(toy_potential(), max_atoms=64)
    stream = unit.iter_predict(structures())
    assert taken == []
    next(stream)
    assert 1 <= len(taken) <= MAX_WINDOW + 1


def test_a_bad_structure_is_named_when_its_turn_comes():
    unit = MLIPPredictUnit(toy_potential())
    with pytest.raises(DataError, match="A structure is a str"):
        unit.predict(["H2O"])
    broken = molecule("H2O")
    broken.positions[1, 0] = np.nan
    broken.info["sid"] = "broken"
    with pytest.raises(DataError, match="'broken' has NaN or infinite numbers in its positions"):
        list(unit.iter_predict([molecule("H2O"), broken]))


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, torch.OutOfMemoryError])
def test_a_batch_that_does_not_fit_is_split(error):
    unit, seen = short_of_memory(60, error=error)
    systems = [molecule(NAMES[i % 4]) for i in range(30)]
    found = unit.predict(systems)
    expected = MLIPPredictUnit(toy_potential()).predict(systems)
    torch.testing.assert_close(found["forces"], expected["forces"], rtol=0, atol=1e-12)
    assert found.sids == expected.sids
    assert any(count > 60 for count, _ in seen)
    # What was learned is kept: the next call needs fewer attempts.
    attempts = len(seen)
    seen.clear()
    unit.predict(systems)
    assert len(seen) <= attempts


def test_a_batch_given_as_one_is_split_too():
    unit, _ = short_of_memory(60)
    batch = collate([from_ase(molecule("C6H6")) for _ in range(6)])
    found = unit.predict(batch)
    expected = MLIPPredictUnit(toy_potential()).predict(batch)
    torch.testing.assert_close(found["energy"], expected["energy"], rtol=0, atol=1e-12)


def test_one_that_does_not_fit_keeps_nothing_for_the_backward_pass():
    unit, _ = short_of_memory(20)
    expected = MLIPPredictUnit(toy_potential()).predict(molecule("C6H6"))
    found = unit.predict(molecule("C6H6"))
    torch.testing.assert_close(found["forces"], expected["forces"], rtol=0, atol=1e-12)


def test_one_that_never_fits_is_named():
    unit, _ = short_of_memory(20, most_lean=20)
    with pytest.raises(OutOfMemoryError, match=r"'C6H6' \(12 atoms, \d+ edges\) does not fit"):
        unit.predict([molecule("H2O"), molecule("C6H6")])
    with pytest.raises(MemoryError):
        unit.predict(molecule("C6H6"))


def test_other_errors_are_not_taken_for_memory():
    unit, seen = short_of_memory(20, error=ArithmeticError)
    with pytest.raises(ArithmeticError, match="can't allocate"):
        unit.predict(molecule("C6H6"))
    assert len(seen) == 1


def test_batches_follow_the_budget():
    model = MemoryModel(torch.device("cpu"), 1e9)
    assert model.fits(100, 100)
    assert not model.fits(100_000, 100)
    before = model.per_edge
    model.succeeded(4000, 100, 1, 2**26 + 4000 * 1000.0)
    assert model.learned
    assert model.per_edge < before
    assert model.bytes_of(4000, 100) > 4000 * 1000.0
    assert model.fits(8_000, 400)
    model.failed(8_000, 400)
    assert not model.fits(8_000, 400)
    assert model.fits(1000, 100)
    # Each composition needs merged weights of its own.
    experts = MemoryModel(torch.device("cpu"), 1e9, per_kind=1e8)
    assert experts.fits(100, 100, 5)
    assert not experts.fits(100, 100, 11)


def test_a_batch_is_split_between_equal_halves():
    items = [
        Item(i, from_ase(molecule(name)).with_edges(4.0), (0, 0, "default", ()))
        for i, name in enumerate(("C6H6", "H2O", "H2O", "H2O"))
    ]
    first, second = halves(items)
    assert [len(first), len(second)] == [1, 3]
    first, second = halves(list(reversed(items)))
    assert [len(first), len(second)] == [3, 1]
    assert [len(batch) for batch in packed(items, lambda edges, *_: edges <= 12)] == [1, 2, 1]


@pytest.mark.slow
def test_twenty_thousand_structures_need_the_memory_of_one_batch():
    unit = MLIPPredictUnit(toy_potential())
    scale = 1 if sys.platform == "darwin" else 1024

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale

    count = 0
    settled = 0
    water = molecule("H2O")

    def waters():
        for i in range(20_000):
            atoms = Atoms(water)
            atoms.positions[0, 0] += 1e-5 * i
            yield atoms

    for prediction in unit.iter_predict(waters(), ["energy", "forces"]):
        count += prediction["energy"].shape[0]
        if count == 5_000:
            settled = peak()
    assert count == 20_000
    assert peak() - settled < 20e6
