"""Predict units by the names of published checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adatom.compat.fairchem.predict_unit import (
    MLIPPredictUnit,
    load_predict_unit,
    refuse_options,
    say_that_seeds_do_nothing,
)
from adatom.compat.fairchem.settings import settings_of
from adatom.inference import pretrained_mlip as own
from adatom.inference.pretrained_mlip import (
    available_models,
    get_reference_energies,
    pretrained_checkpoint_path_from_name,
)
from adatom.inference.settings import InferenceSettings

__all__ = [
    "available_models",
    "get_predict_unit",
    "get_reference_energies",
    "load_predict_unit",
    "pretrained_checkpoint_path_from_name",
]


def get_predict_unit(
    model_name: str | Path,
    inference_settings: InferenceSettings | str = "default",
    overrides: Mapping[str, Any] | None = None,
    device: str | None = None,
    cache_dir: str | Path | None = None,
    workers: int = 1,
    seed: int | None = None,
    **options: Any,
) -> MLIPPredictUnit:
    """Load a published checkpoint, which is downloaded once, or a file.

    Args:
        model_name: A name of :data:`available_models`, or a file.
        inference_settings: A preset's name or settings.
        overrides: Settings of the model to change, such as ``{"backbone": {"max_neighbors": 50}}``.
        device: Where to compute; None takes a GPU where there is one.
        cache_dir: Where downloaded files are.
        workers: Processes that compute each structure together; more than 1 needs Ray.
        seed: Accepted with a warning: nothing is drawn at random.
        **options: Refused, with their names.

    Raises:
        AdatomError: If there is no such file or name, it cannot be downloaded, or an argument
            cannot be used.
    """
    refuse_options(options)
    say_that_seeds_do_nothing(seed)
    unit = own.get_predict_unit(
        model_name, settings_of(inference_settings), overrides, device, cache_dir, workers
    )
    return MLIPPredictUnit(unit)
