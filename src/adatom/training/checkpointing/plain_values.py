"""The small part of a training's state as JSON text: exact, readable, and never executed."""

from __future__ import annotations

import base64
import json
from typing import Any

import torch

from adatom.core.errors import CheckpointError

_TAG = "__is__"


def to_text(value: Any, what: str) -> str:
    """Return ``value`` as JSON text.

    Numbers keep every bit. Tuples, tensors and dicts with keys other than text are marked by an
    entry ``__is__``.

    Args:
        value: Dicts, lists, tuples, text, numbers, booleans, None, tensors.
        what: Its name, for messages.

    Raises:
        CheckpointError: If there is anything else; it is named.
    """
    return json.dumps(_encoded(value, what), indent=1)


def from_text(text: str, source: str) -> Any:
    """Return what :func:`to_text` was given.

    Args:
        text: JSON.
        source: The file's name, for messages.

    Raises:
        CheckpointError: If the text is damaged.
    """
    try:
        return _decoded(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError) as error:
        raise CheckpointError(
            f"{source!r} is damaged: {str(error)[:200]}", fix="Restore it from a copy."
        ) from error


def _encoded(value: Any, what: str) -> Any:
    # Subclasses, such as an IntEnum or numpy's float64, would come back as another type.
    if value is None or type(value) in (bool, str, int, float):
        return value
    if isinstance(value, list):
        return [_encoded(item, f"{what}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, tuple):
        return {_TAG: "tuple", "items": [_encoded(v, f"{what}[{i}]") for i, v in enumerate(value)]}
    if isinstance(value, torch.Tensor):
        return _encoded_tensor(value)
    if isinstance(value, dict):
        if all(isinstance(key, str) and key != _TAG for key in value):
            return {key: _encoded(item, f"{what}.{key}") for key, item in value.items()}
        pairs = [[_encoded(k, what), _encoded(v, f"{what}.{k}")] for k, v in value.items()]
        return {_TAG: "dict", "items": pairs}
    raise CheckpointError(
        f"The state of the training has a {type(value).__name__} at {what}",
        expected="numbers, text, tensors, and lists, tuples and dicts of them",
        fix="Let the state_dict of that part return such values.",
    )


def _encoded_tensor(tensor: torch.Tensor) -> dict[str, Any]:
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return {
        _TAG: "tensor",
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "base64": base64.b64encode(data).decode("ascii"),
    }


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(_TAG)
    if kind is None:
        return {key: _decoded(item) for key, item in value.items()}
    if kind == "tuple":
        return tuple(_decoded(item) for item in value["items"])
    if kind == "dict":
        return {_decoded(key): _decoded(item) for key, item in value["items"]}
    if kind == "tensor":
        return _decoded_tensor(value)
    raise ValueError(f"unknown kind of value {kind!r}")


def _decoded_tensor(value: dict[str, Any]) -> torch.Tensor:
    dtype = getattr(torch, value["dtype"], None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"unknown dtype {value['dtype']!r}")  # noqa: TRY004 (it is the file's)
    data = bytearray(base64.b64decode(value["base64"], validate=True))
    flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    return flat.reshape(value["shape"]).clone()
