"""The checkpoint: one safetensors file that holds a potential.

The file's metadata has one entry, ``adatom``: the JSON description of
:mod:`adatom.checkpoint.description` with the SHA-256 of description and tensors. One entry, so
that the same potential always gives the same bytes. Nothing in the file is executed: classes are
looked up in a table (:mod:`adatom.models.registry`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from adatom.checkpoint.construction import without_initial_weights
from adatom.checkpoint.description import assemble, describe
from adatom.checkpoint.fairchem import read_fairchem
from adatom.checkpoint.names import is_published, resolve_checkpoint
from adatom.checkpoint.references import published_references
from adatom.checkpoint.safetensors_header import SafetensorsHeader, parse_json, read_header
from adatom.checkpoint.torch_archive import is_torch_archive
from adatom.checkpoint.upgrades import upgrade
from adatom.checkpoint.weights import (
    cpu_weights,
    fingerprint,
    fingerprint_of_stored,
    load_weights,
)
from adatom.core.errors import AdatomError, CheckpointError, ConfigError
from adatom.core.files import atomic_write
from adatom.core.mapped_file import MappedFile
from adatom.models.registry import Allowed, registered_classes
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
    save_described(describe(potential), cpu_weights(potential), path)


def save_described(
    description: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    path: str | os.PathLike[str],
) -> None:
    """Write a potential whose weights are not those of a module, as while parts are elsewhere.

    Args:
        description: From :func:`adatom.checkpoint.description.describe`.
        tensors: Its parameters and persistent buffers on the CPU, each with its own memory.
        path: Conventionally ``*.safetensors``.

    Raises:
        FileAccessError: If the file cannot be written.
    """
    weights = dict(tensors)
    complete = {**description, "sha256": fingerprint(description, weights)}
    text = json.dumps(complete, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as part:
        save_file(weights, part, metadata={_ENTRY: text})


def load_potential(
    name_or_path: str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    allow: Collection[Allowed] = (),
) -> Potential:
    """Read a potential; no code from the file is executed.

    Every byte that is used is compared with the file's checksums. Large weights are not copied:
    they stay in the file, which must not be changed in place (replacing it is fine) while the
    potential is in use. Changing weights, as training does, never changes the file.

    Args:
        name_or_path: An adatom checkpoint, an official fairchem inference checkpoint (``.pt``),
            the name of an embedded potential (``"default"``), or that of a published one
            (``"uma-s-1p2p1"``), which is downloaded once, with its tables of reference energies.
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
    lean = _is_own_model(description)
    with without_initial_weights() if lean else nullcontext():
        potential = assemble(description, str(path), dtype=dtype, allow=allow)
    load_weights(potential, tensors, str(path), assign=lean)
    if is_published(name_or_path):
        potential.metadata |= published_references(str(name_or_path))
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
        return _read_official(path, verify=False)[0]
    _refuse_pickle(path)
    stored = _stored_description(read_header(path), path)
    return upgrade({k: v for k, v in stored.items() if k != "sha256"}, str(path))


def verify(path: str | os.PathLike[str]) -> None:
    """Read a whole checkpoint and compare it with its fingerprint, without building the model.

    Raises:
        CheckpointError: If anything was changed or is damaged.
    """
    _read(resolve_checkpoint(path))


def _is_own_model(description: dict[str, Any]) -> bool:
    """Whether the model may be built without initial weights and use those of the file as such.

    Models of others may refer to a parameter twice, or derive something from its first value.
    """
    own = [*registered_classes(), *registered_classes().values()]
    return all(
        path in own for path in _class_paths([description.get(k) for k in ("backbone", "head")])
    )


def _class_paths(value: Any) -> Iterator[Any]:
    """Yield each class that a description names, heads inside heads included."""
    if isinstance(value, dict) and "class_path" in value:
        yield value["class_path"]
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _class_paths(item)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the current description and the tensors of a checkpoint of any kind."""
    if is_torch_archive(path):
        return _read_official(path, verify=True)
    _refuse_pickle(path)
    header = read_header(path)
    stored = _stored_description(header, path)
    # The version goes first: a newer format may also compute its fingerprint in another way.
    written = {k: v for k, v in stored.items() if k != "sha256"}
    description = upgrade(written, str(path))
    with MappedFile(path) as file:
        found = fingerprint_of_stored(
            written,
            {
                name: (t.dtype, t.shape, file.chunks(t.start, t.num_bytes))
                for name, t in header.tensors.items()
            },
        )
        if stored.get("sha256") != found:
            raise CheckpointError(
                f"The contents of {str(path)!r} do not match their fingerprint: the file was "
                "changed or damaged after it was written",
                expected=f"SHA-256 {stored.get('sha256')}",
                fix="Copy or download the file again.",
            )
        tensors = {
            name: file.tensor(t.start, t.dtype, t.shape) for name, t in header.tensors.items()
        }
    return description, tensors


def _read_official(path: Path, *, verify: bool) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        return read_fairchem(path, verify=verify)
    except AdatomError as error:
        if str(path) in str(error):
            raise
        raise CheckpointError(f"{str(path)!r} cannot be read: {error}") from error
    # Settings of another form than expected can fail anywhere; all mean the same.
    except Exception as error:
        raise CheckpointError(
            f"The settings in {str(path)!r} cannot be understood ({type(error).__name__}: "
            f"{str(error)[:200]})",
            expected="an official fairchem inference checkpoint",
        ) from error


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as stream:
        if stream.read(2) in _PICKLE:
            raise CheckpointError(
                f"{str(path)!r} is a bare pickle, which could run any code when loaded",
                expected="an adatom checkpoint (.safetensors) or an official fairchem one (.pt)",
            )


def _stored_description(header: SafetensorsHeader, path: Path) -> dict[str, Any]:
    if _ENTRY not in header.metadata:
        raise CheckpointError(
            f"{str(path)!r} is a safetensors file of another program",
            expected=f"an adatom checkpoint, whose metadata has the entry {_ENTRY!r}",
            fix="Official fairchem checkpoints are read as .pt files.",
        )
    return parse_json(header.metadata[_ENTRY], path)
