"""The description of the service that its users' tools read (OpenAPI 3.1)."""

from __future__ import annotations

from typing import Any

from adatom import __version__
from adatom.data.validation import MAX_ATOMIC_NUMBER
from adatom.inference.serving.limits import Limits
from adatom.tasks.potential import DEFAULT_PROPERTIES, PROPERTIES

_UNITS: dict[str, tuple[str, list[int | None] | None]] = {
    "energy": ("eV", []),
    "forces": ("eV/angstrom, [N, 3]", [None, 3]),
    "stress": ("eV/angstrom^3, [3, 3], positive is tensile", [3, 3]),
    "energies": ("eV, per atom [N]", [None]),
    "virials": ("eV, per atom [N, 3, 3]", [None, 3, 3]),
    "hessian": ("eV/angstrom^2, [3N, 3N], atoms and then x, y, z", [None, None]),
    "embeddings": ("features of atoms [N, ...]", None),
    "relaxed_energy": ("eV, of the structure that a relaxation ends in", []),
}


def openapi(limits: Limits) -> dict[str, Any]:
    """Return the description as JSON values.

    Args:
        limits: Of the service.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "adatom",
            "version": __version__,
            "description": "Energies, forces and stresses of structures. Requests of many "
            "clients are computed together. Units are eV and angstrom.",
        },
        "paths": _paths(limits),
        "components": {
            "schemas": {
                "PredictRequest": _request(limits),
                "Structure": _structure(limits),
                "PredictResponse": _response(),
                "Result": _result(),
                "Error": _error(),
                "Model": _model(),
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _paths(limits: Limits) -> dict[str, Any]:
    refusals = {
        "400": "Not JSON, or not of the form below",
        "401": "The token is missing or wrong",
        "404": "There is no such model",
        "409": "The model was replaced: it has another version now",
        "413": f"Larger than {limits.max_body_mb:g} MB or {limits.max_structures} structures",
        "415": "The content type is not application/json",
        "503": "Too much is waiting, or the service ends; the header Retry-After says when to "
        "try again",
    }
    error = _content(_object({"error": _ref("Error")}))
    predict = {
        "operationId": "predict",
        "summary": "Predict properties of one or several structures",
        "description": "Each structure has its own result, or its own error; one that is wrong "
        "does not concern the others, and the status is 200 all the same.",
        "requestBody": {"required": True, **_content(_ref("PredictRequest"))},
        "responses": {
            "200": {
                "description": "One result per structure",
                **_content(_ref("PredictResponse")),
            },
            **{code: {"description": text, **error} for code, text in refusals.items()},
        },
    }
    models = {"type": "array", "items": _ref("Model")}
    return {
        "/v1/predict": {"post": predict},
        "/v1/models": {"get": _get("models", "List the models", _object({"models": models}))},
        "/health": {
            "get": {
                **_get("health", "Tell whether requests are taken; needs no token", {}),
                "security": [{}],
            }
        },
        "/metrics": {"get": _get("metrics", "Numbers in the text format of Prometheus", None)},
    }


def _get(name: str, summary: str, schema: dict[str, Any] | None) -> dict[str, Any]:
    content = {"content": {"text/plain": {}}} if schema is None else _content(schema)
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "Done", **content}},
    }


def _request(limits: Limits) -> dict[str, Any]:
    return {
        **_object(
            {
                "structures": {
                    "type": "array",
                    "items": _ref("Structure"),
                    "minItems": 1,
                    "maxItems": limits.max_structures,
                },
                "properties": {
                    "type": ["array", "null"],
                    "items": {"enum": list(PROPERTIES)},
                    "description": f"Default: {', '.join(DEFAULT_PROPERTIES)}, as far as the "
                    "structure has them",
                },
                "model": {"type": ["string", "null"], "description": "Needed if there are several"},
                "version": {
                    "type": ["string", "null"],
                    "description": "Refuse the request if the model has another version",
                },
            }
        ),
        "required": ["structures"],
        "additionalProperties": False,
    }


def _structure(limits: Limits) -> dict[str, Any]:
    element = {"type": "integer", "minimum": 1, "maximum": MAX_ATOMIC_NUMBER}
    flags = {"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 3}
    return {
        **_object(
            {
                "numbers": {
                    "type": "array",
                    "items": element,
                    "minItems": 1,
                    "maxItems": limits.max_atoms,
                    "description": "Atomic numbers",
                },
                "positions": {**_numbers([None, 3]), "description": "In angstrom, [N, 3]"},
                "cell": {
                    **_numbers([3, 3]),
                    "type": ["array", "null"],
                    "description": "Lattice vectors as rows, in angstrom",
                },
                "pbc": {
                    "anyOf": [{"type": ["boolean", "null"]}, flags],
                    "description": "Periodic directions; needed with a cell",
                },
                "charge": {"type": "integer", "default": 0},
                "spin": {
                    "type": "integer",
                    "default": 0,
                    "description": "Multiplicity 2S+1; 0 means not given",
                },
                "task": {
                    "type": ["string", "null"],
                    "description": "The level of theory; needed if the model has several",
                },
                "id": {"type": ["string", "null"], "description": "Names it in messages"},
            }
        ),
        "required": ["numbers", "positions"],
        "additionalProperties": False,
    }


def _response() -> dict[str, Any]:
    results = {"type": "array", "items": {"anyOf": [_ref("Result"), _failed()]}}
    return {
        **_object({"model": _text(), "version": _text(), "results": results}),
        "required": ["model", "version", "results"],
        "additionalProperties": False,
    }


def _result() -> dict[str, Any]:
    values = {
        name: {
            **({"type": "array"} if shape is None else _numbers(shape)),
            "description": text,
        }
        for name, (text, shape) in _UNITS.items()
    }
    absent = {"type": "object", "additionalProperties": _text()}
    absent["description"] = "Why properties are missing, by property"
    return {
        **_object({"id": _text(), **values, "absent": absent}),
        "required": ["id"],
        "additionalProperties": False,
    }


def _failed() -> dict[str, Any]:
    return {
        **_object({"id": _text(), "error": _ref("Error")}),
        "required": ["error"],
        "additionalProperties": False,
    }


def _error() -> dict[str, Any]:
    names = ("type", "message", "found", "expected", "fix")
    return {**_object({name: _text() for name in names}), "required": ["type", "message"]}


def _model() -> dict[str, Any]:
    integers = {"type": "array", "items": {"type": "integer"}}
    task = _object(
        {
            "elements": integers,
            "charges": integers,
            "spins": integers,
            "properties": {"type": "array", "items": _text()},
            "relaxed": {"type": "boolean"},
        }
    )
    return _object(
        {
            "name": _text(),
            "version": _text(),
            "dtype": _text(),
            "cutoff": {"type": "number"},
            "tasks": {"type": "object", "additionalProperties": task},
        }
    )


def _numbers(shape: list[int | None]) -> dict[str, Any]:
    if not shape:
        return {"type": "number"}
    limits = {} if shape[0] is None else {"minItems": shape[0], "maxItems": shape[0]}
    return {"type": "array", "items": _numbers(shape[1:]), **limits}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _text() -> dict[str, Any]:
    return {"type": "string"}
