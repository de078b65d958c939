"""What crosses the wire: the documented schema and the code that reads it agree."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from adatom.core.errors import AdatomError, DataError, NonFiniteError, OutOfDomainError
from adatom.data.ase_convert import from_ase
from adatom.inference.prediction import Prediction
from adatom.inference.serving.client import error_from_json
from adatom.inference.serving.errors import ServiceError
from adatom.inference.serving.limits import Limits, estimated_edges
from adatom.inference.serving.openapi import openapi
from adatom.inference.serving.wire import (
    encode,
    error_json,
    parse_request,
    parse_structure,
    prediction_from_json,
    prediction_json,
    structure_json,
)

WATER = {"numbers": [8, 1, 1], "positions": [[0, 0, 0.1], [0, 0.8, -0.5], [0, -0.8, -0.5]]}
CELL = [[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0]]


def validator(name):
    jsonschema = pytest.importorskip("jsonschema")
    document = openapi(Limits())
    return jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    )


@pytest.mark.parametrize(
    ("given", "valid"),
    [
        (WATER, True),
        (WATER | {"cell": None, "pbc": None, "task": None, "id": None}, True),
        (WATER | {"cell": CELL, "pbc": [True, False, True], "charge": 1, "spin": 2}, True),
        (WATER | {"cell": CELL, "pbc": False, "task": "a", "id": "x"}, True),
        ({"numbers": [1]}, False),
        (WATER | {"numbers": [8, 1, 119]}, False),
        (WATER | {"numbers": [8, 1, "H"]}, False),
        (WATER | {"numbers": [8, 1, True]}, False),
        (WATER | {"positions": [[0, 0], [1, 1], [2, 2]]}, False),
        (WATER | {"positions": [[0, 0, "1"]] * 3}, False),
        (WATER | {"cell": [9, 9, 9], "pbc": True}, False),
        (WATER | {"cell": CELL, "pbc": [1, 1, 1]}, False),
        (WATER | {"charge": "1"}, False),
        (WATER | {"unknown": 1}, False),
    ],
)
def test_schema_and_reader_agree_on_structures(given, valid):
    assert validator("Structure").is_valid(given) == valid
    if valid:
        assert parse_structure(given, 0, ["a"]).num_atoms == 3
    else:
        with pytest.raises(AdatomError):
            parse_structure(given, 0, ["a"])


def test_schema_and_reader_agree_on_requests():
    good = {"structures": [WATER], "properties": ["energy"], "model": None, "version": "1"}
    for given in (good, {"structures": [WATER]}):
        assert validator("PredictRequest").is_valid(given)
        parse_request(encode(given))
    for given in ({}, {"structures": []}, good | {"model": 1}, good | {"more": 1}, [WATER]):
        assert not validator("PredictRequest").is_valid(given)
        with pytest.raises(AdatomError):
            parse_request(json.dumps(given).encode())


def test_answers_are_as_documented(running):
    cell = WATER | {"cell": CELL, "pbc": True}
    body = {"structures": [WATER, cell, WATER | {"charge": 9}]}
    answer = running.ask("POST", "/v1/predict", body)[2]
    validator("PredictResponse").validate(answer)
    body["properties"] = ["energy", "forces", "virials", "hessian", "embeddings"]
    answer = running.ask("POST", "/v1/predict", body)[2]
    validator("PredictResponse").validate(answer)
    for model in running.ask("GET", "/v1/models")[2]["models"]:
        validator("Model").validate(model)
    refused = running.ask("POST", "/v1/predict", {})[2]
    validator("Error").validate(refused["error"])
    document = running.ask("GET", "/openapi.json")[2]
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {"/v1/predict", "/v1/models", "/health", "/metrics"}


@pytest.mark.parametrize("atoms", [molecule("H2O"), bulk("Cu") * 2, bulk("Si")])
def test_a_structure_comes_back_as_it_was(atoms):
    atoms.rattle(0.1, seed=1)
    atoms.pbc = atoms.pbc & [True, False, True]
    atoms.info |= {"charge": 1, "spin": 2}
    system = from_ase(atoms, dataset="a", sid="x")
    found = parse_structure(json.loads(encode(structure_json(system))), 0, ["a", "b"])
    for name in ("pos", "cell", "pbc", "atomic_numbers", "charge", "spin"):
        assert torch.equal(getattr(found, name), getattr(system, name))
    assert (found.dataset, found.sid) == (system.dataset, system.sid)


def test_a_prediction_comes_back_bit_by_bit():
    draw = np.random.default_rng(0)
    values = {
        "energy": torch.tensor(draw.normal(size=1)),
        "forces": torch.tensor(draw.normal(size=(4, 3)), dtype=torch.float32),
        "hessian": torch.tensor(draw.normal(size=(12, 12)), dtype=torch.float32),
        "virials": torch.tensor(draw.normal(size=(4, 3, 3)) * 1e-300),
    }
    prediction = Prediction(values, ["x"], {"stress": {0: "no cell"}}, [4])
    told = json.loads(encode(prediction_json(prediction)))
    found = prediction_from_json(told, 4, torch.float32)
    assert (found.sids, found.absent, found.natoms) == (["x"], {"stress": {0: "no cell"}}, [4])
    assert set(found) == set(values)
    for name, value in values.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_json_cannot_hold_is_an_error(number):
    values = {"forces": torch.tensor([[0.0, number, 0.0]])}
    with pytest.raises(NonFiniteError, match="forces of structure 'x'"):
        prediction_json(Prediction(values, ["x"], {}, [1]))


def test_errors_keep_their_class_and_their_words():
    error = OutOfDomainError("It has U", expected="only H", fix="Remove U.")
    found = error_from_json(json.loads(encode(error_json(error))))
    assert type(found) is OutOfDomainError
    assert isinstance(found, ValueError)
    assert str(found) == str(error)
    assert (found.found, found.expected, found.fix) == ("It has U", "only H", "Remove U.")
    assert "secret" not in str(error_json(RuntimeError("secret")))
    # A name in core.errors that is no error, or nothing at all, is never made.
    for kind in ("annotations", "did_you_mean", "SystemExit", None):
        assert type(error_from_json({"type": kind, "message": "x"})) is ServiceError
    assert isinstance(error_from_json({"type": "DataError", "message": "x"}), DataError)


def test_estimated_edges_are_near_the_real_ones_in_a_crystal():
    for atoms in (bulk("Cu") * 3, bulk("Si", cubic=True) * 2):
        system = from_ase(atoms)
        exact = system.with_edges(6.0).edges.index.shape[1]
        assert estimated_edges(system, 6.0) == pytest.approx(exact, rel=0.15)
    slab = bulk("Cu", cubic=True) * (3, 3, 4)
    slab.pbc = [True, True, False]
    exact = from_ase(slab).with_edges(6.0).edges.index.shape[1]
    assert estimated_edges(from_ase(slab), 6.0) == pytest.approx(exact, rel=0.6)
    assert estimated_edges(from_ase(molecule("C6H6")), 6.0) <= 144
