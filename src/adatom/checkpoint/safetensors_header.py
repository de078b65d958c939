"""The header of a safetensors file, checked against the file's size, without touching a tensor.

Layout (https://github.com/huggingface/safetensors, "Format"): 8 bytes little-endian header length
n, n bytes of JSON ``{name: {dtype, shape, data_offsets}, "__metadata__": {str: str}}``, then the
tensor bytes; offsets count from the end of the header.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adatom.core.errors import CheckpointError

#: The same limit as in the safetensors library.
_MAX_HEADER_BYTES = 100_000_000
_MAX_DIMENSIONS = 64
_REPLACE = "Copy or download the file again."
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(slots=True, frozen=True)
class StoredTensor:
    """Where a tensor lies.

    Attributes:
        dtype: Of the stored numbers.
        shape: Row-major.
        start: First byte in the file.
        num_bytes: Size.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    num_bytes: int


@dataclass(slots=True, frozen=True)
class SafetensorsHeader:
    """What a safetensors file says about itself.

    Attributes:
        metadata: Free text by name.
        tensors: By name.
    """

    metadata: dict[str, str]
    tensors: dict[str, StoredTensor]


def read_header(path: Path) -> SafetensorsHeader:
    """Read and check the header.

    Raises:
        CheckpointError: If the file is no safetensors file, is truncated, or its header is damaged.
    """
    num_bytes = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= _MAX_HEADER_BYTES:
            raise CheckpointError(
                f"{str(path)!r} is not a checkpoint that adatom can read",
                expected="an adatom checkpoint (.safetensors) or an official fairchem one (.pt)",
            )
        if 8 + length > num_bytes:
            raise _truncated(path, 8 + length, num_bytes)
        text = stream.read(length)
    try:
        header = json.loads(text)
        metadata = {str(k): str(v) for k, v in header.pop("__metadata__", {}).items()}
        tensors = {str(name): _stored(entry, 8 + length) for name, entry in header.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{str(path)!r} is not a safetensors file, or its header is damaged",
            expected="an adatom checkpoint (.safetensors) or an official fairchem one (.pt)",
            fix=_REPLACE,
        ) from error
    end = max((t.start + t.num_bytes for t in tensors.values()), default=0)
    # Tensors that overlap could need more memory than the file has bytes.
    end = max(end, 8 + length + sum(t.num_bytes for t in tensors.values()))
    if end > num_bytes:
        raise _truncated(path, end, num_bytes)
    return SafetensorsHeader(metadata, tensors)


def _stored(entry: Mapping[str, Any], data_start: int) -> StoredTensor:
    dtype = _DTYPES[entry["dtype"]]
    shape = tuple(int(n) for n in entry["shape"])
    first, last = (int(n) for n in entry["data_offsets"])
    if len(shape) > _MAX_DIMENSIONS or not all(0 <= n < 2**63 for n in (*shape, first, last)):
        raise ValueError("a number is out of range")
    if last - first != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"shape {shape} does not fit the bytes {first} to {last}")
    return StoredTensor(dtype, shape, data_start + first, last - first)


def parse_json(text: str, path: Path) -> dict[str, Any]:
    """Parse the JSON object kept in a metadata entry.

    Raises:
        CheckpointError: If it is not a JSON object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"The description in {str(path)!r} is damaged: {error}", fix=_REPLACE
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"The description in {str(path)!r} is not a JSON object")
    return value


def _truncated(path: Path, expected: int, found: int) -> CheckpointError:
    return CheckpointError(
        f"{str(path)!r} is truncated: it has {found} bytes",
        expected=f"at least {expected} bytes",
        fix=_REPLACE,
    )
