"""Predict units by the names of published checkpoints, or by path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from adatom.checkpoint.names import is_published, resolve_checkpoint
from adatom.checkpoint.published import PUBLISHED, ReferenceKind
from adatom.checkpoint.references import (
    Table,
    published_references,
    read_references,
    reference_energies,
)
from adatom.inference.parallel.predict_unit import ParallelMLIPPredictUnit, check_workers
from adatom.inference.predict_unit import MLIPPredictUnit, Settings

#: Names of the published potentials; each needs access to its repository on huggingface.co.
available_models: tuple[str, ...] = tuple(PUBLISHED)


def get_predict_unit(
    name_or_path: str | os.PathLike[str],
    inference_settings: Settings = "default",
    overrides: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    workers: int = 1,
) -> MLIPPredictUnit:
    """Load a predict unit by name or path; a local file goes before a name.

    Args:
        name_or_path: A checkpoint, ``"default"``, or one of :data:`available_models`, which is
            downloaded once.
        inference_settings: A preset, settings, or a mapping of settings.
        overrides: Arguments of the backbone to replace, as ``{"backbone": {...}}``.
        device: Where to compute; None takes a GPU where there is one.
        cache_dir: Where downloaded files are; see :func:`adatom.checkpoint.hub.cache_folders`.
        workers: Processes that compute each structure together, with a GPU each where ``device``
            says so; more than 1 needs Ray.

    Raises:
        AdatomError: If there is no such file or name, it cannot be downloaded, or it is damaged.
        ConfigError: If an argument cannot be used.
    """
    check_workers(workers)
    path = resolve_checkpoint(name_or_path, cache_dir=cache_dir)
    tables: Mapping[str, Table] = {}
    if is_published(name_or_path):
        tables = published_references(str(name_or_path), cache_dir=cache_dir)
    return load_predict_unit(path, inference_settings, overrides, device, workers=workers, **tables)


def load_predict_unit(
    path: str | os.PathLike[str],
    inference_settings: Settings = "default",
    overrides: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
    atom_refs: str | os.PathLike[str] | Mapping[Any, Any] | None = None,
    form_elem_refs: str | os.PathLike[str] | Mapping[Any, Any] | None = None,
    workers: int = 1,
) -> MLIPPredictUnit:
    """Load a predict unit from a checkpoint file, with tables that the file has not.

    Args:
        path: The checkpoint.
        inference_settings: As in :func:`get_predict_unit`.
        overrides: As in :func:`get_predict_unit`.
        device: As in :func:`get_predict_unit`.
        atom_refs: Energies of isolated atoms in eV, by dataset, atomic number and, if they depend
            on it, charge; a YAML file or its contents.
        form_elem_refs: Energies of elements in eV per atom, by dataset and symbol; likewise.
        workers: As in :func:`get_predict_unit`.

    Raises:
        AdatomError: If a file cannot be read or is damaged.
        ConfigError: If an argument cannot be used.
    """
    given = {"atom_refs": atom_refs, "form_elem_refs": form_elem_refs}
    tables = {kind: read_references(table) for kind, table in given.items() if table is not None}
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    unit = load_unit(
        Path(path), inference_settings, overrides=overrides, device=device, workers=workers
    )
    unit.potential.metadata.update(tables)
    return unit


def load_unit(
    name_or_path: str | os.PathLike[str],
    inference_settings: Settings = "default",
    *,
    workers: int = 1,
    **options: Any,
) -> MLIPPredictUnit:
    """Load a checkpoint for one process or for several.

    Args:
        name_or_path: As for :meth:`MLIPPredictUnit.load`.
        inference_settings: As for :meth:`MLIPPredictUnit.load`.
        workers: As in :func:`get_predict_unit`.
        **options: Further arguments of :meth:`MLIPPredictUnit.load`, or for several workers of
            :meth:`adatom.inference.parallel.predict_unit.ParallelMLIPPredictUnit.load`.

    Raises:
        AdatomError: As :func:`get_predict_unit`.
    """
    check_workers(workers)
    path = Path(name_or_path)
    if workers == 1:
        return MLIPPredictUnit.load(path, inference_settings, **options)
    return ParallelMLIPPredictUnit.load(path, inference_settings, workers=workers, **options)


def pretrained_checkpoint_path_from_name(
    name: str, cache_dir: str | os.PathLike[str] | None = None
) -> str:
    """Return the local path of an embedded or published checkpoint; it is downloaded once.

    Args:
        name: See :func:`get_predict_unit`.
        cache_dir: See :func:`get_predict_unit`.

    Raises:
        AdatomError: If there is no such name or it cannot be downloaded.
    """
    return str(resolve_checkpoint(name, cache_dir=cache_dir))


def get_reference_energies(
    name: str,
    reference_type: ReferenceKind = "atom_refs",
    cache_dir: str | os.PathLike[str] | None = None,
) -> Table:
    """Return a table that is published beside a checkpoint.

    Args:
        name: Among :data:`available_models`.
        reference_type: ``"atom_refs"`` (isolated atoms) or ``"form_elem_refs"``.
        cache_dir: See :func:`get_predict_unit`.

    Returns:
        Energies in eV by dataset, then element (atomic number or symbol, as text), then charge.

    Raises:
        AdatomError: If there is no such name or table, or it cannot be downloaded.
    """
    return reference_energies(name, reference_type, cache_dir=cache_dir)
