"""Each kind of bad input has its sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ase.build import bulk, molecule

from adatom.core.errors import (
    ConfigError,
    DataError,
    MissingLabelError,
    OutOfDomainError,
    UnknownNameError,
)
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import collate
from adatom.inference.predict_unit import MLIPPredictUnit
from toy_backbone import toy_potential


@pytest.fixture(scope="module")
def unit():
    return MLIPPredictUnit(toy_potential())


@pytest.fixture
def water():
    return from_ase(molecule("H2O"))


@pytest.mark.parametrize("field", ["pos", "cell"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(unit, water, field, value):
    broken = replace(water, **{field: getattr(water, field).clone()}, sid=["broken"])
    getattr(broken, field)[0, 0] = value
    word = "positions" if field == "pos" else "cell"
    for given in (broken, [water, broken], collate([water, broken])):
        with pytest.raises(DataError, match=f"'broken' has NaN or infinite numbers in its {word}"):
            unit.predict(given)


@pytest.mark.parametrize("field", ["atomic_numbers", "natoms", "charge", "spin", "batch"])
def test_integers_of_the_wrong_type(unit, water, field):
    broken = replace(water, **{field: getattr(water, field).float()})
    with pytest.raises(DataError, match=rf"has {field} of type torch.float32.*torch.int64"):
        unit.predict(broken)


def test_positions_of_the_wrong_type(unit, water):
    with pytest.raises(DataError, match=r"has pos of type torch\.int64"):
        unit.predict(replace(water, pos=water.pos.long()))
    single = unit.predict(replace(water, pos=water.pos.float()))
    assert float(single["energy"]) == pytest.approx(float(unit.predict(water)["energy"]), abs=1e-5)


@pytest.mark.parametrize("number", [0, -1, 100, 118, 200])
def test_elements_outside_the_tables(unit, water, number):
    broken = replace(water, atomic_numbers=water.atomic_numbers.clone())
    broken.atomic_numbers[1] = number
    with pytest.raises(OutOfDomainError, match=r"'H2O' has .*which this potential never saw"):
        unit.predict(broken)


def test_a_change_in_place_is_seen(unit, water):
    unit.predict(water)
    water.atomic_numbers[1] = 99
    with pytest.raises(OutOfDomainError, match="Es"):
        unit.predict(water)


def test_unknown_tasks(unit, water):
    with pytest.raises(UnknownNameError, match="did you mean 'default'"):
        unit.predict(replace(water, dataset=["defalt"]))
    with pytest.raises(UnknownNameError, match="did you mean 'default'"):
        unit.predict(molecule("H2O"), task_name="defalt")


def test_devices_that_are_not_there():
    with pytest.raises(ConfigError, match="There is no device 'gpu'"):
        MLIPPredictUnit(toy_potential(), device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="torch sees no CUDA device"):
            MLIPPredictUnit(toy_potential(), device="cuda")
        with pytest.raises(ConfigError, match="torch sees no CUDA device"):
            MLIPPredictUnit.load("default", device="cuda")


def test_tensors_without_numbers_are_refused(unit, water):
    with pytest.raises(DataError, match="'H2O' has pos on the device 'meta'"):
        unit.predict(water.to("meta"))
    with pytest.raises(DataError, match="'H2O' has cell on the device 'meta'"):
        unit.predict(replace(water, cell=water.cell.to("meta")))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tensors_on_several_devices_are_refused(unit, water):
    with pytest.raises(DataError, match=r"has charge on cuda:0 and positions on cpu"):
        unit.predict(replace(water, charge=water.charge.cuda()))


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("pos", lambda x: x[:, :2], r"has pos of shape \(3, 2\). Expected shape \(3, 3\)"),
        ("pos", lambda x: x.numpy(), "has pos of type ndarray"),
        ("atomic_numbers", lambda x: x[:2], r"has atomic_numbers of shape \(2,\)"),
        ("cell", lambda x: x[0], r"has cell of shape \(3, 3\)"),
        ("cell", lambda _: None, "has cell of type NoneType"),
        ("pbc", lambda x: x[0], r"has pbc of shape \(3,\)"),
        ("pbc", lambda x: x.long(), r"has pbc of type torch\.int64.*torch\.bool"),
        ("charge", lambda x: x.repeat(2), r"has charge of shape \(2,\)"),
        ("natoms", lambda x: x + 1, "natoms and batch do not fit 3 positions"),
        ("batch", lambda x: x + 1, "natoms and batch do not fit 3 positions"),
        ("dataset", lambda x: x[0], "has dataset 'default'. Expected a list with 1 entries"),
        ("sid", lambda x: x * 2, "has sid .* Expected a list with 1 entries"),
    ],
)
def test_wrong_shapes(unit, water, field, change, message):
    broken = replace(water, **{field: change(getattr(water, field))})
    for given in (broken, [water, broken]):
        with pytest.raises(DataError, match=message):
            unit.predict(given)
    with pytest.raises(DataError, match=message):
        unit.explain(broken)


def test_batches_whose_atoms_are_not_in_order(unit, water):
    batch = collate([water, water])
    for broken in (
        replace(batch, batch=batch.batch.flip(0)),
        replace(batch, natoms=batch.natoms + 1),
    ):
        for given in (broken, [broken], iter([broken])):
            with pytest.raises(DataError, match="natoms and batch do not fit 6 positions"):
                unit.predict(given)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("index", lambda x: x + 1),
        ("index", lambda x: x - 1),
        ("index", lambda x: x.flip(1)),
        ("counts", lambda x: x + 1),
    ],
)
def test_edges_of_something_else(unit, water, field, change):
    edges = water.with_edges(4.0).edges
    broken = replace(water, edges=replace(edges, **{field: change(getattr(edges, field))}))
    for given in (broken, [water, broken]):
        with pytest.raises(DataError, match="'H2O' has edges that do not fit its 3 atoms"):
            unit.predict(given)


def test_edges_of_the_wrong_form(unit, water):
    edges = water.with_edges(4.0).edges
    wrong = replace(edges, index=edges.index.double())
    with pytest.raises(DataError, match=r"has edges\.index of type torch\.float64"):
        unit.predict(replace(water, edges=wrong))
    wrong = replace(edges, offsets=edges.offsets[1:])
    with pytest.raises(DataError, match=r"has edges\.offsets of shape \(5, 3\)"):
        unit.predict(replace(water, edges=wrong))


@pytest.mark.parametrize("given", [None, 7, "water", ["a.xyz"], [None]])
def test_what_is_no_structure(unit, given):
    with pytest.raises(DataError, match="A structure is a"):
        unit.predict(given)


def test_overrides_change_only_what_keeps_the_weights():
    unit = MLIPPredictUnit.load("default", overrides={"backbone": {"max_neighbors": 12}})
    assert unit.potential.max_neighbors == 12
    with pytest.raises(UnknownNameError, match="'lmax' cannot be overridden"):
        MLIPPredictUnit.load("default", overrides={"backbone": {"lmax": 4}})
    with pytest.raises(UnknownNameError, match="did you mean 'backbone'"):
        MLIPPredictUnit.load("default", overrides={"backbon": {}})
    with pytest.raises(ConfigError, match="max_neighbors is 0"):
        MLIPPredictUnit.load("default", overrides={"backbone": {"max_neighbors": 0}})


def test_a_hessian_of_several_structures(unit):
    with pytest.raises(DataError, match="use iter_predict"):
        unit.predict([molecule("H2O"), molecule("CO2")], ["hessian"])
    found = list(unit.iter_predict([molecule("H2O"), molecule("CO2")], ["hessian"]))
    assert [part["hessian"].shape for part in found] == [(9, 9), (9, 9)]
    batch = collate([from_ase(molecule("H2O")), from_ase(molecule("CO2"))])
    with pytest.raises(DataError, match="use iter_predict"):
        unit.predict(batch, ["hessian"])


def test_an_output_name_that_is_taken(unit):
    with pytest.raises(ConfigError, match="'forces' already"):
        unit.add_output("forces", None)


def test_outputs_that_are_added_are_predicted_in_order():
    unit = MLIPPredictUnit(toy_potential())

    class Spread:
        level = "system"

        def __call__(self, potential, batch, predicted):
            assert potential.dtype == torch.float64
            assert "uncertainty" not in predicted
            return batch.natoms.double()

    unit.add_output("uncertainty", Spread())
    with pytest.raises(UnknownNameError, match="did you mean 'uncertainty'"):
        unit.predict(molecule("H2O"), ["uncertanty"])
    found = unit.predict([molecule("H2O"), molecule("CH4"), bulk("Cu")], ["energy", "uncertainty"])
    assert found["uncertainty"].tolist() == [3, 5, 1]
    with pytest.raises(MissingLabelError, match="'uncertainty' was not predicted"):
        unit.predict(molecule("H2O"))["uncertainty"]


@pytest.mark.parametrize("shift", [0.0, 0.01])
def test_atoms_on_top_of_each_other(unit, water, shift):
    twice = replace(water, sid=["twice"], pos=water.pos.clone())
    twice.pos[2] = twice.pos[1] + shift
    for given in (twice, collate([water, twice]), [water, twice, water]):
        with pytest.raises(DataError, match="'twice' has atoms 1 and 2"):
            list(unit.iter_predict(given if isinstance(given, list) else [given]))
