"""The ASE calculator with fairchem-core's name and signature."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.compat.fairchem import pretrained_mlip
from adatom.compat.fairchem.predict_unit import MLIPPredictUnit, say_that_seeds_do_nothing
from adatom.compat.fairchem.task import UMATask
from adatom.inference import predict_unit as inference
from adatom.inference.settings import InferenceSettings


class FAIRChemCalculator(MLIPCalculator):
    """:class:`adatom.calculators.ase_calculator.MLIPCalculator` made from a predict unit.

    Charge and spin multiplicity are read from ``atoms.info``, which is never changed.

    Args:
        predict_unit: From :func:`load_predict_unit` or :mod:`pretrained_mlip`, or adatom's own.
        task_name: The task, needed only if the potential has several.
        seed: Accepted with a warning: nothing is drawn at random.

    Raises:
        ConfigError: If there are several tasks and none was chosen.
        UnknownNameError: If the potential has no such task.
    """

    def __init__(
        self,
        predict_unit: MLIPPredictUnit | inference.MLIPPredictUnit,
        task_name: UMATask | str | None = None,
        seed: int | None = None,
    ) -> None:
        say_that_seeds_do_nothing(seed)
        if isinstance(predict_unit, inference.MLIPPredictUnit):
            predict_unit = MLIPPredictUnit(predict_unit)
        self.predictor = predict_unit
        super().__init__(predict_unit.unit, None if task_name is None else str(task_name))

    @classmethod
    def from_model_checkpoint(
        cls,
        name_or_path: str | Path,
        task_name: UMATask | str | None = None,
        inference_settings: InferenceSettings | str = "default",
        overrides: Mapping[str, Any] | None = None,
        device: str | None = None,
        seed: int | None = None,
        workers: int = 1,
    ) -> FAIRChemCalculator:
        """Load a checkpoint as a calculator.

        Args:
            name_or_path: A published name, or a file.
            task_name: The task, needed only if the potential has several.
            inference_settings: A preset's name or settings.
            overrides: Settings of the model to change.
            device: Where to compute; None takes a GPU where there is one.
            seed: Accepted with a warning: nothing is drawn at random.
            workers: Processes that compute each structure together; more than 1 needs Ray.

        Raises:
            AdatomError: If the checkpoint cannot be loaded, or an argument cannot be used.
        """
        say_that_seeds_do_nothing(seed)
        unit = pretrained_mlip.get_predict_unit(
            name_or_path, inference_settings, overrides, device, workers=workers
        )
        return cls(unit, task_name)
