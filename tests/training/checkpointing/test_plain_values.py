"""The JSON part of a training's state comes back as it was, and nothing in it is executed."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any

import numpy as np
import pytest
import torch

from adatom.core.errors import CheckpointError
from adatom.training.checkpointing.plain_values import from_text, to_text

VALUES: list[Any] = [
    None,
    True,
    3,
    2**70,
    0.1 + 0.2,
    math.inf,
    "text",
    [1, [2.5, None]],
    (1, ("a",)),
    {"a": {"b": (1, 2)}, "__is_": 3},
    {1: "int key", (2, 3): "tuple key", None: 4},
    {"__is__": "tuple", "items": []},
]


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_round_trip(value: Any) -> None:
    found = from_text(to_text(value, "state"), "file")
    assert found == value
    assert type(found) is type(value)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(math.pi, dtype=torch.float64),
        torch.tensor([[1.5, math.nan]], dtype=torch.bfloat16),
        torch.zeros(0, 3),
        torch.tensor([True, False]),
        torch.get_rng_state()[:64],
        torch.arange(6).reshape(2, 3).T,
    ],
    ids=lambda tensor: f"{tensor.dtype}-{tuple(tensor.shape)}",
)
def test_tensors_keep_every_bit(tensor: torch.Tensor) -> None:
    found = from_text(to_text({"t": tensor}, "state"), "file")["t"]
    assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(bits(found), bits(tensor))


class Kind(IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    "value",
    [object(), np.float64(1.0), Kind.ONE, {1, 2}, b"bytes"],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_plain_is_named(value: Any) -> None:
    with pytest.raises(CheckpointError, match=r"a \w+ at state\.callbacks\.mine\[0\]"):
        to_text({"callbacks": {"mine": [value]}}, "state")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"__is__": "tensor", "dtype": "load", "shape": [1], "base64": "AAAA"}',
        '{"__is__": "tensor", "dtype": "float32", "shape": [9], "base64": "AAAAAA=="}',
        '{"__is__": "tensor", "dtype": "float32", "shape": [1], "base64": "?"}',
        '{"__is__": "os.system", "items": ["true"]}',
        '{"__is__": "dict", "items": [[["a"], 1]]}',
        "[" * 100000,
    ],
    ids=lambda text: text[:40],
)
def test_damaged_text(text: str) -> None:
    with pytest.raises(CheckpointError, match=r"'state\.json' is damaged"):
        from_text(text, "state.json")
