"""JSON as ASE writes it, with arrays as ``{"__ndarray__": [shape, dtype, numbers]}``.

Cells become arrays; other objects of ASE are made by its own decoder.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np


def _fast_loads() -> Callable[[bytes], Any]:
    try:
        import orjson
    except ImportError:  # no wheel for this platform: the same results, at a sixth of the speed
        return json.loads
    found: Callable[[bytes], Any] = orjson.loads
    return found


_FAST = _fast_loads()


class _RareError(Exception):
    """Something that is left to ASE's own decoder."""


def decode_ase(text: bytes) -> Any:
    """Decode what :func:`ase.io.jsonio.encode` wrote.

    Raises:
        ValueError: If it is not JSON.
        KeyError: If a special object is of an unknown kind.
        TypeError: If a special object is described wrongly.
    """
    try:
        return _with_arrays(_loads(text))
    except _RareError:
        from ase.io.jsonio import decode

        return decode(text.decode("utf-8"))


def _loads(text: bytes) -> Any:
    try:
        return _FAST(text)
    except json.JSONDecodeError:  # NaN and infinity, which only the standard library reads
        return json.loads(text)


def _with_arrays(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        if "__ndarray__" in value:
            shape, dtype, numbers = value["__ndarray__"]
            if dtype.startswith("complex"):
                raise _RareError
            array = np.array(numbers, dtype=dtype)
            return array if len(shape) == 1 else array.reshape(shape)
        if value.get("__ase_objtype__") == "cell":  # in every row that ASE itself wrote
            return _with_arrays(value["array"])
        return {_key(key): _with_arrays(item) for key, item in value.items()}
    # Long lists of numbers are not searched for arrays.
    if kind is list and value and isinstance(value[0], (dict, list)):
        return [_with_arrays(item) for item in value]
    return value


def _key(key: str) -> str | int:
    """Return whole numbers as such: JSON knows only text as keys."""
    if key.startswith("__"):
        raise _RareError
    if key[:1] in "-0123456789" and key:
        try:
            return int(key)
        except ValueError:
            return key
    return key
