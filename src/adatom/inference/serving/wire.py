"""Between JSON and structures, predictions and errors. Nothing else ever crosses the wire."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import torch
from ase import Atoms

from adatom.core.errors import AdatomError, DataError, NonFiniteError, unknown_name
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData
from adatom.data.validation import MAX_ATOMIC_NUMBER, validate
from adatom.inference.prediction import Prediction

REQUEST_KEYS = ("structures", "properties", "model", "version")
STRUCTURE_KEYS = ("numbers", "positions", "cell", "pbc", "charge", "spin", "task", "id")
#: Angstrom: beyond it are mistakes, and numbers whose squares overflow.
_FARTHEST = 1e7
_KINDS = {"whole numbers": "iu", "numbers": "iuf"}


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """What a client asks for; the structures are still as they came.

    Attributes:
        structures: Not checked yet, so that each can have its own error.
        properties: Names, or None for the defaults.
        model: Name, or None for the only one.
        version: The version that has to answer, or None for any.
    """

    structures: list[Any]
    properties: list[str] | None
    model: str | None
    version: str | None


def parse_request(body: bytes) -> PredictRequest:
    """Read the body of a request.

    Raises:
        DataError: If it is not JSON, or not of the form that is documented.
        UnknownNameError: If it has a key that does not exist.
    """
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DataError(
            f"The request is not JSON: {error}",
            expected="JSON, where all numbers are finite",
        ) from error
    if not isinstance(given, dict):
        raise DataError(f"The request is a JSON {_type(given)}", expected="an object")
    _known(given, REQUEST_KEYS, "key in the request")
    structures, properties = given.get("structures"), given.get("properties")
    if not isinstance(structures, list) or not structures:
        raise DataError("The request has no 'structures'", expected="a list of at least one")
    if properties is not None and not (
        isinstance(properties, list) and all(isinstance(name, str) for name in properties)
    ):
        raise DataError("'properties' is not a list of names")
    for name in ("model", "version"):
        if given.get(name) is not None and not isinstance(given[name], str):
            raise DataError(f"{name!r} is a JSON {_type(given[name])}", expected="a string")
    return PredictRequest(structures, properties, given.get("model"), given.get("version"))


def parse_structure(given: Any, number: int, tasks: Sequence[str]) -> AtomicData:
    """Read one structure.

    Args:
        given: What stands in the list.
        number: Its place there, which names it if it has no ``id``.
        tasks: Those of the potential.

    Returns:
        A valid system.

    Raises:
        DataError: If it is unusable.
        UnknownNameError: If it has a key, or names a task, that does not exist.
    """
    where = f"structures[{number}]"
    if not isinstance(given, dict):
        raise DataError(f"{where} is a JSON {_type(given)}", expected="an object")
    _known(given, STRUCTURE_KEYS, f"key in {where}")
    sid = given.get("id")
    if sid is not None and not isinstance(sid, str):
        raise DataError(f"The 'id' of {where} is a JSON {_type(sid)}", expected="a string")
    numbers = _array(given, "numbers", where, (None,), "whole numbers")
    if numbers.size == 0 or numbers.min() < 1 or numbers.max() > MAX_ATOMIC_NUMBER:
        raise DataError(
            f"The 'numbers' of {where} are not those of elements",
            expected=f"one atomic number from 1 to {MAX_ATOMIC_NUMBER} per atom",
        )
    positions = _array(given, "positions", where, (len(numbers), 3), "numbers")
    cell, pbc = _cell(given, where)
    info = {name: _whole(given, name, where) for name in ("charge", "spin")}
    atoms = Atoms(numbers, positions, cell=cell, pbc=pbc, info=info)
    task = _task(given.get("task"), tasks, where)
    system = from_ase(atoms, dataset=task, sid=sid or where, label_keys={})
    validate(system)
    return system


def structure_json(system: AtomicData) -> dict[str, Any]:
    """Return a structure as a request has it; the inverse of :func:`parse_structure`."""
    return {
        "numbers": system.atomic_numbers.cpu().numpy(),
        "positions": np.ascontiguousarray(system.pos.detach().cpu().double().numpy()),
        "cell": np.ascontiguousarray(system.cell[0].detach().cpu().double().numpy()),
        "pbc": system.pbc[0].cpu().tolist(),
        "charge": int(system.charge[0]),
        "spin": int(system.spin[0]),
        "task": system.dataset[0],
        "id": system.sid[0],
    }


def prediction_json(prediction: Prediction) -> dict[str, Any]:
    """Return the prediction for one structure; numbers come back bit by bit.

    Raises:
        NonFiniteError: If a number is NaN or infinite, which JSON cannot hold.
    """
    result: dict[str, Any] = {"id": prediction.sids[0]}
    for name, value in prediction.items():
        array = np.ascontiguousarray(value.detach().cpu().double().numpy())
        if not np.isfinite(array).all():
            raise NonFiniteError(
                f"The predicted {name} of structure {prediction.sids[0]!r} is NaN or infinite"
            )
        per_system = name in ("energy", "stress", "relaxed_energy")
        result[name] = array[0] if per_system else array
    absent = {name: reasons[0] for name, reasons in prediction.absent.items() if reasons}
    if absent:
        result["absent"] = absent
    return result


def prediction_from_json(given: Mapping[str, Any], natoms: int, dtype: torch.dtype) -> Prediction:
    """Read one result; the inverse of :func:`prediction_json`.

    Args:
        given: A result without an error.
        natoms: Atoms of the structure.
        dtype: Of the potential, which forces and Hessian have.
    """
    absent = {name: {0: reason} for name, reason in given.get("absent", {}).items()}
    values = {}
    for name, value in given.items():
        if name in ("id", "absent"):
            continue
        tensor = torch.tensor(value, dtype=torch.float64)
        if name in ("energy", "stress", "relaxed_energy"):
            tensor = tensor[None]
        values[name] = tensor.to(dtype) if name in ("forces", "hessian") else tensor
    return Prediction(values, [str(given["id"])], absent, [natoms])


def error_json(error: BaseException) -> dict[str, Any]:
    """Return an error as a client is told; what is not meant for users stays in the log."""
    if not isinstance(error, AdatomError):
        return {
            "type": "ServiceError",
            "found": "The service failed at this structure; its log says why",
            "message": "The service failed at this structure; its log says why.",
        }
    told = {
        "type": type(error).__name__,
        "message": str(error),
        "found": error.found,
        "expected": error.expected,
        "fix": error.fix,
    }
    return {name: text for name, text in told.items() if text}


def encode(value: Mapping[str, Any]) -> bytes:
    """Return JSON; NumPy arrays of finite numbers become lists."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _cell(
    given: Mapping[str, Any], where: str
) -> tuple[npt.NDArray[np.float64] | None, list[bool]]:
    pbc = given.get("pbc")
    if isinstance(pbc, bool):
        pbc = [pbc] * 3
    if given.get("cell") is None:
        if pbc is not None and pbc != [False] * 3:
            raise DataError(f"{where} is periodic and has no 'cell'")
        return None, [False] * 3
    if not (isinstance(pbc, list) and len(pbc) == 3 and all(isinstance(x, bool) for x in pbc)):
        raise DataError(
            f"{where} has a 'cell', and 'pbc' does not say in which directions it is periodic",
            expected="true, false, or a list of three of these",
        )
    return _array(given, "cell", where, (3, 3), "numbers").astype(np.float64), pbc


def _array(
    given: Mapping[str, Any],
    name: str,
    where: str,
    shape: tuple[int | None, ...],
    kind: str,
) -> npt.NDArray[Any]:
    if name not in given:
        raise DataError(f"{where} has no {name!r}", expected=f"{_size(shape)} {kind}")
    try:
        array = np.array(given[name])
    except ValueError:
        array = np.array(None)
    right = array.ndim == len(shape) and all(
        size is None or size == found for size, found in zip(shape, array.shape, strict=True)
    )
    if array.size == 0 and shape[0] in (None, 0):
        return array.astype(np.int64).reshape([size or 0 for size in shape])
    if not right or array.dtype.kind not in _KINDS[kind] or _has_booleans(given[name]):
        shown = f"an array of shape {array.shape}" if array.dtype.kind in "iuf" else "not numbers"
        raise DataError(
            f"The {name!r} of {where} are {shown}",
            expected=f"{_size(shape)} {kind}",
        )
    if np.abs(array).max() > _FARTHEST:
        raise DataError(
            f"The {name!r} of {where} have a number beyond {_FARTHEST:g}",
            expected="atomic numbers, or lengths in angstrom",
        )
    return array


def _has_booleans(given: Any) -> bool:
    """Look for true and false, which NumPy takes for 1 and 0 among numbers."""
    if isinstance(given, list):
        return any(isinstance(x, bool) or (isinstance(x, list) and _has_booleans(x)) for x in given)
    return isinstance(given, bool)


def _whole(given: Mapping[str, Any], name: str, where: str) -> int:
    value = given.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f"The {name!r} of {where} is {value!r}", expected="a whole number")
    return value


def _task(given: Any, tasks: Sequence[str], where: str) -> str:
    if given is None:
        if len(tasks) == 1:
            return tasks[0]
        raise DataError(
            f"{where} has no 'task', and this model has several",
            expected=f"one of: {', '.join(tasks)}",
        )
    if not isinstance(given, str) or given not in tasks:
        raise unknown_name("task", str(given), tasks)
    return given


def _known(given: Mapping[str, Any], keys: Collection[str], kind: str) -> None:
    for name in given:
        if name not in keys:
            raise unknown_name(kind, name, keys)


def _size(shape: Sequence[int | None]) -> str:
    return " x ".join("N" if size is None else str(size) for size in shape)


def _type(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
