"""What calculators are made of: a predict unit, however it is given, and its neighbors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.data.validation import OVERLAP
from adatom.graph.verlet import VerletList
from adatom.inference.parallel.predict_unit import ParallelMLIPPredictUnit, check_workers
from adatom.inference.predict_unit import MLIPPredictUnit, Settings
from adatom.inference.pretrained_mlip import get_predict_unit
from adatom.inference.settings import GRAPH_BACKENDS, inference_settings
from adatom.tasks.potential import Potential


def predict_unit_of(
    source: str | Path | Potential | MLIPPredictUnit,
    settings: Settings = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    overrides: Mapping[str, Any] | None = None,
    workers: int = 1,
) -> MLIPPredictUnit:
    """Return a predict unit, loaded or prepared where it is not one yet.

    Args:
        source: Name or path of a checkpoint, a potential, or a predict unit.
        settings: How to compute; None means ``"default"`` (not for a predict unit).
        device: Where to compute; None means the CPU (not for a predict unit).
        dtype: Floating dtype of the network; None takes that of settings or potential (not for a
            predict unit).
        overrides: Settings of a loaded checkpoint's model to change.
        workers: Processes that compute each structure together (not for a predict unit).

    Raises:
        ConfigError: If a predict unit is given together with what it has already.
        AdatomError: If a checkpoint cannot be loaded.
    """
    if isinstance(source, MLIPPredictUnit):
        if device is not None or dtype is not None or settings is not None or workers != 1:
            raise ConfigError(
                "Settings, device, dtype or workers were given together with a predict unit",
                fix="Give them to the predict unit.",
            )
        return source
    settings = inference_settings(settings)
    if dtype is not None:
        settings = replace(settings, base_precision_dtype=dtype)
    if not isinstance(source, Potential):
        return get_predict_unit(source, settings, overrides, device or "cpu", workers=workers)
    check_workers(workers)
    if workers == 1:
        return MLIPPredictUnit(source, settings, device=device or "cpu")
    return ParallelMLIPPredictUnit(source, settings, workers=workers, device=device or "cpu")


def require_energies(unit: MLIPPredictUnit, task_name: str) -> None:
    """Refuse a potential whose derivatives are not forces.

    Args:
        unit: The predict unit.
        task_name: A dataset of its potential.

    Raises:
        ConfigError: If it predicts relaxed energies for that dataset.
    """
    if unit.potential.is_relaxed(task_name):
        raise ConfigError(
            f"This potential predicts relaxed energies for the task {task_name!r}, which have no "
            "forces: their derivatives are none",
            fix="Use 'adatom predict', or a potential that was trained on energies and forces.",
        )


def neighbors_of(unit: MLIPPredictUnit, skin: float) -> VerletList:
    """Return a reused neighbor list as the unit's potential and settings want it.

    Args:
        unit: The predict unit.
        skin: Verlet skin in angstrom.

    Raises:
        GraphError: If the skin is negative, or the search that the settings name does not exist.
    """
    return VerletList(
        unit.potential.cutoff,
        skin,
        max_neighbors=unit.potential.max_neighbors,
        backend=GRAPH_BACKENDS[unit.settings.internal_graph_gen_version],
        min_distance=OVERLAP,
    )


def with_edges(unit: MLIPPredictUnit, neighbors: VerletList, data: AtomicData) -> AtomicData:
    """Return a batch with edges, or as it is for several workers: each finds those of its atoms.

    Args:
        unit: The predict unit.
        neighbors: From :func:`neighbors_of`.
        data: The batch.
    """
    if isinstance(unit, ParallelMLIPPredictUnit):
        return data
    return replace(data, edges=neighbors.edges(data.pos, data.cell, data.pbc, data.natoms))
