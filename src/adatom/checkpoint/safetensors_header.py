"""The header of a safetensors file, checked against the file's size, without touching a tensor.

Layout (https://github.com/huggingface/safetensors, "Format"): 8 bytes little-endian header length
n, n bytes of JSON ``{name: {dtype, shape, data_offsets}, "__metadata__": {str: str}}``, then the
tensor bytes; offsets count from the end of the header.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adatom.core.errors import CheckpointError

#: The same limit as in the safetensors library.
_MAX_HEADER_BYTES = 100_000_000
_REPLACE = "Copy or download the file again."


@dataclass(slots=True, frozen=True)
class SafetensorsHeader:
    """What a safetensors file says about itself.

    Attributes:
        metadata: Free text by name.
        shapes: Shape by tensor name.
        num_bytes: Size of the file.
    """

    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    num_bytes: int


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
        shapes = {name: tuple(int(n) for n in entry["shape"]) for name, entry in header.items()}
        data_end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise CheckpointError(
            f"{str(path)!r} is not a safetensors file, or its header is damaged",
            expected="an adatom checkpoint (.safetensors) or an official fairchem one (.pt)",
            fix=_REPLACE,
        ) from error
    if 8 + length + data_end > num_bytes:
        raise _truncated(path, 8 + length + data_end, num_bytes)
    return SafetensorsHeader(metadata, shapes, num_bytes)


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
