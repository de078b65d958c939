"""Weights into a model, with every mismatch named; and their fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn

from adatom.core.errors import CheckpointError, did_you_mean

_SHOWN = 8


#: Dtype, shape and bytes (in pieces) of a tensor.
Stored: TypeAlias = tuple[torch.dtype, tuple[int, ...], Iterable[Any]]


def load_weights(
    module: nn.Module, tensors: Mapping[str, torch.Tensor], source: str, *, assign: bool = False
) -> None:
    """Bring ``tensors`` into the parameters and persistent buffers of ``module``.

    The dtype is that of the module: float32 weights enter a float64 module exactly.

    Args:
        module: The model.
        tensors: By name.
        source: The file's name, for messages.
        assign: Let the model use the given tensors where they have its dtype, instead of copies.
            Only for models that refer to each parameter once.

    Raises:
        CheckpointError: If a tensor is missing, left over, or of another shape.
    """
    wanted = module.state_dict()
    missing = sorted(set(wanted) - set(tensors))
    unexpected = sorted(set(tensors) - set(wanted))
    if missing or unexpected:
        parts = [f"{name!r} is missing{did_you_mean(name, unexpected)}" for name in missing]
        parts += [
            f"{name!r} does not belong to the model{did_you_mean(name, missing)}"
            for name in unexpected
        ]
        raise _mismatch(source, parts)
    parts = [
        f"{name!r} has shape {tuple(tensors[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if tensors[name].shape != value.shape
    ]
    if parts:
        raise _mismatch(source, parts)
    if assign:
        fitting = {name: tensors[name].to(value.dtype) for name, value in wanted.items()}
        module.load_state_dict(fitting, assign=True)
        return
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(tensors[name])


def cpu_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of parameters and persistent buffers on the CPU, each with its own memory."""
    return {
        name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in module.state_dict().items()
    }


def fingerprint(description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a description and the names, dtypes, shapes and bytes of tensors.

    It shows accidental and careless changes; it is no signature.
    """
    stored: dict[str, Stored] = {}
    for name, tensor in tensors.items():
        data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
        stored[name] = (tensor.dtype, tuple(tensor.shape), [data])
    return fingerprint_of_stored(description, stored)


def fingerprint_of_stored(description: Mapping[str, Any], tensors: Mapping[str, Stored]) -> str:
    """Return the same as :func:`fingerprint` for tensors that are not in memory."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name in sorted(tensors):
        dtype, shape, chunks = tensors[name]
        digest.update(f"\n{name} {dtype} {shape}\n".encode())
        for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()


def _mismatch(source: str, parts: list[str]) -> CheckpointError:
    more = f"; and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return CheckpointError(
        f"The weights in {source!r} do not fit their model: {'; '.join(parts[:_SHOWN])}{more}",
        fix="Load the file with the adatom (or model code) that wrote it.",
    )
