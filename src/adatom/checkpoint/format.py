"""The checkpoint: one safetensors file that holds a potential.

The file's metadata has one entry, ``adatom``: the JSON description of
:mod:`adatom.checkpoint.description` with the SHA-256 of description and tensors. One entry, so
that the same potential always gives the same bytes. Nothing in the file is executed: classes are
looked up in a table (:mod:`adatom.models.registry`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from adatom.checkpoint.description import assemble, describe
from adatom.checkpoint.fairchem import read_fairchem
from adatom.checkpoint.names import resolve_checkpoint
from adatom.checkpoint.safetensors_header import parse_json, read_header
from adatom.checkpoint.torch_archive import is_torch_archive
from adatom.checkpoint.upgrades import upgrade
from adatom.checkpoint.weights import cpu_weights, fingerprint, load_weights
from adatom.core.errors import CheckpointError, ConfigError
from adatom.core.files import atomic_write
from adatom.models.registry import Allowed
from adatom.tasks.potential import Potential

_ENTRY = "adatom"
_PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def save_potential(potential: Potential, path: str | os.PathLike[str]) -> None:
    """Write a potential to one file; ``path`` is either the old file or the whole new one.

    Args:
        potential: On any device; the weights are stored in their dtype.
        path: Conventionally ``*.safetensors``.

    Raises:
        CheckpointError: If a constructor argument or metadata value is not plain JSON.
        FileAccessError: If the file cannot be written.
    """
    description = describe(potential)
    tensors = cpu_weights(potential)
    description["sha256"] = fingerprint(description, tensors)
    text = json.dumps(description, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as part:
        save_file(tensors, part, metadata={_ENTRY: text})


def load_potential(
    name_or_path: str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    allow: Collection[Allowed] = (),
) -> Potential:
    """Read a potential; no code from the file is executed.

    Args:
        name_or_path: An adatom checkpoint, an official fairchem inference checkpoint (``.pt``),
            or the name of an embedded potential (``"default"``).
        dtype: Floating dtype of the model; None for the stored one. float64 keeps stored float32
            weights exactly and computes the model's constants in float64.
        device: Where the model shall be.
        allow: Model classes of yours (or their import paths) that the file may name.

    Returns:
        The potential in evaluation mode.

    Raises:
        CheckpointError: If the file is damaged, truncated, altered, foreign or too new.
        FileAccessError: If the file cannot be read.
        UnknownNameError: If there is no such file or name.
        ConfigError: If the device or dtype cannot be used.
    """
    path = resolve_checkpoint(name_or_path)
    description, tensors = _read(path)
    potential = assemble(description, str(path), dtype=dtype, allow=allow)
    load_weights(potential, tensors, str(path))
    try:
        return potential.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"The device {str(device)!r} cannot be used: {reason}") from error


def read_description(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the JSON description of a checkpoint, upgraded to the current version.

    Only the header of an adatom file is read; :func:`verify` compares the fingerprint.

    Raises:
        CheckpointError: If the file is damaged, truncated, foreign or too new.
        FileAccessError: If the file cannot be read.
    """
    path = resolve_checkpoint(path)
    if is_torch_archive(path):
        return read_fairchem(path)[0]
    stored = _stored_description(path)
    return upgrade({k: v for k, v in stored.items() if k != "sha256"}, str(path))


def verify(path: str | os.PathLike[str]) -> None:
    """Read a whole checkpoint and compare it with its fingerprint, without building the model.

    Raises:
        CheckpointError: If anything was changed or is damaged.
    """
    _read(resolve_checkpoint(path))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the current description and the tensors of a checkpoint of any kind."""
    if is_torch_archive(path):
        return read_fairchem(path)
    stored = _stored_description(path)
    # The version goes first: a newer format may also compute its fingerprint in another way.
    written = {k: v for k, v in stored.items() if k != "sha256"}
    description = upgrade(written, str(path))
    tensors = _read_tensors(path)
    if stored.get("sha256") != fingerprint(written, tensors):
        raise CheckpointError(
            f"The contents of {str(path)!r} do not match their fingerprint: the file was changed "
            "or damaged after it was written",
            expected=f"SHA-256 {stored.get('sha256')}",
            fix="Copy or download the file again.",
        )
    return description, tensors


def _stored_description(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        if stream.read(2) in _PICKLE:
            raise CheckpointError(
                f"{str(path)!r} is a bare pickle, which could run any code when loaded",
                expected="an adatom checkpoint (.safetensors) or an official fairchem one (.pt)",
            )
    header = read_header(path)
    if _ENTRY not in header.metadata:
        raise CheckpointError(
            f"{str(path)!r} is a safetensors file of another program",
            expected=f"an adatom checkpoint, whose metadata has the entry {_ENTRY!r}",
            fix="Official fairchem checkpoints are read as .pt files.",
        )
    return parse_json(header.metadata[_ENTRY], path)


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} is damaged: {error}", fix="Copy or download the file again."
        ) from error
