"""The tables of energies that are published beside checkpoints, as plain JSON values.

Their files are YAML, read as data. ``atom_refs``: dataset -> atomic number -> energy in eV, or
charge -> energy. ``form_elem_refs``: dataset -> element symbol -> energy in eV per atom.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, get_args

from adatom.checkpoint.hub import fetch
from adatom.checkpoint.published import ReferenceKind, published
from adatom.core.console import say
from adatom.core.errors import DataError, FileAccessError, UnknownNameError, unknown_name
from adatom.core.files import require_readable

#: Energies by text keys, nested as the module says.
Table: TypeAlias = dict[str, Any]

_SUFFIX = "_elem_refs"
_MAX_DEPTH = 3


def reference_energies(
    name: str,
    kind: ReferenceKind = "atom_refs",
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Table:
    """Return a table that belongs to a published potential.

    Args:
        name: Published name.
        kind: Which table.
        cache_dir: See :func:`adatom.checkpoint.hub.cache_folders`.
        local_files_only: Do not use the network.

    Raises:
        UnknownNameError: If there is no such potential or kind, or it has no such table.
        FileAccessError: If it cannot be downloaded.
        DataError: If the file is not such a table.
    """
    if kind not in get_args(ReferenceKind):
        raise unknown_name("kind of reference energies", kind, get_args(ReferenceKind))
    where = published(name)
    filename: str | None = getattr(where, kind)
    if filename is None:
        raise UnknownNameError(f"No {kind} are published for {name!r}")
    path = fetch(
        where.repo_id,
        filename,
        revision=where.revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    return read_references(path)


def published_references(
    name: str, *, cache_dir: str | os.PathLike[str] | None = None, local_files_only: bool = False
) -> dict[str, Table]:
    """Return all tables of a published potential by kind; one that cannot be had is left out.

    Only isolated atoms and formation energies need them, so that is said and no error.
    """
    tables = {}
    for kind in get_args(ReferenceKind):
        if getattr(published(name), kind) is None:
            continue
        try:
            tables[kind] = reference_energies(
                name, kind, cache_dir=cache_dir, local_files_only=local_files_only
            )
        except (FileAccessError, DataError) as error:
            say(f"Without {kind} (for isolated atoms or formation energies): {error}")
    return tables


def read_references(source: str | os.PathLike[str] | Mapping[Any, Any]) -> Table:
    """Return a table as plain JSON values, keyed by dataset.

    Args:
        source: A YAML file, or its contents.

    Raises:
        FileAccessError: If the file cannot be read.
        DataError: If it is not such a table.
    """
    if isinstance(source, Mapping):
        return _table(source, "The table of reference energies")
    import yaml

    path = require_readable(source)
    try:
        contents = yaml.safe_load(Path(path).read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{str(path)!r} is not a YAML file: {error}") from error
    return _table(contents, repr(str(path)))


def _table(contents: Any, where: str) -> Table:
    if isinstance(contents, Mapping) and set(contents) == {"refs"}:
        contents = contents["refs"]
    if not isinstance(contents, Mapping):
        raise DataError(f"{where} is no table", expected="energies by dataset and element")
    return {
        str(dataset).removesuffix(_SUFFIX): _energies(energies, f"{where}, {dataset}", 1)
        for dataset, energies in contents.items()
    }


def _energies(value: Any, where: str, depth: int) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping) or depth > _MAX_DEPTH:
        raise DataError(f"{where} has {str(value)[:40]!r}", expected="energies in eV")
    return {str(key): _energies(item, f"{where}, {key}", depth + 1) for key, item in value.items()}
