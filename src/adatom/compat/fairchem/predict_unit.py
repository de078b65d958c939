"""A predict unit with fairchem-core's signatures and shapes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adatom.calculators.task_rules import TaskRules
from adatom.compat.fairchem.atomic_data import AtomicData
from adatom.compat.fairchem.settings import settings_of
from adatom.core.errors import ConfigError
from adatom.data import atomic_data as own
from adatom.inference import predict_unit as inference
from adatom.inference import pretrained_mlip
from adatom.inference.settings import InferenceSettings


class MLIPPredictUnit:
    """Predicts dictionaries of tensors with fairchem-core's shapes.

    Args:
        unit: adatom's predict unit, which does the work.

    Attributes:
        unit: adatom's predict unit.
    """

    def __init__(self, unit: inference.MLIPPredictUnit) -> None:
        self.unit = unit
        self._rules: dict[str, TaskRules] = {}

    @property
    def device(self) -> str:
        """Type of the device it computes on."""
        return self.unit.device.type

    @property
    def inference_settings(self) -> InferenceSettings:
        """The settings."""
        return self.unit.settings

    @property
    def datasets(self) -> list[str]:
        """Names of the tasks."""
        return self.unit.potential.datasets

    @property
    def form_elem_refs(self) -> dict[str, Any]:
        """Formation reference energies by task and element symbol, eV (empty without any)."""
        return dict(self.unit.potential.metadata.get("form_elem_refs") or {})

    @property
    def atom_refs(self) -> dict[str, Any]:
        """Energies of isolated atoms by task and atomic number, eV (empty without any)."""
        return dict(self.unit.potential.metadata.get("atom_refs") or {})

    def predict(
        self, data: AtomicData, undo_element_references: bool = True
    ) -> dict[str, torch.Tensor]:
        """Predict all systems of ``data``, which is not changed.

        Args:
            data: One structure or a batch; ``dataset`` says the task of each, and may be empty
                where the potential has one.
            undo_element_references: Add the elements' reference energies, which makes total
                energies; without them energies are what the network gives, in eV.

        Returns:
            Detached: ``energy [B]`` in eV, ``forces [N, 3]`` in eV/angstrom, ``stress [B, 9]`` in
            eV/angstrom^3 (NaN for a molecule, which has no volume), and ``hessian [1, 3N, 3N]``
            where the settings ask for it.

        Raises:
            DataError: If a structure cannot be used, or its task needs a spin that is not given.
            OutOfDomainError: If it has an element, charge or spin that was never seen.
        """
        checked = self._checked(data)
        prediction = self.unit.predict(checked)
        out = {
            name: prediction[name]
            for name in ("energy", "forces", "stress", "hessian")
            if name in prediction
        }
        if not undo_element_references:
            references = self.unit.potential.reference_energies(checked.to(self.unit.device))
            batch = checked.batch.to(references.device)
            out["energy"] = out["energy"].index_add(0, batch, -references.to(out["energy"].device))
        if "stress" in out:
            out["stress"] = out["stress"].flatten(1)
        elif "stress" in prediction.absent:
            out["stress"] = out["energy"].new_full((checked.num_systems, 9), torch.nan)
        if "hessian" in out:
            out["hessian"] = out["hessian"][None]
        return out

    def _checked(self, data: AtomicData) -> own.AtomicData:
        """Convert, and complete charge and spin as the tasks need them."""
        converted = data.to_adatom(with_edges=self.unit.settings.external_graph_gen)
        tasks = [self.unit.resolve_task(str(name) or None) for name in converted.dataset]
        pairs = []
        atoms = torch.split(converted.atomic_numbers.cpu(), converted.natoms.tolist())
        for i, (task, numbers) in enumerate(zip(tasks, atoms, strict=True)):
            if task not in self._rules:
                self._rules[task] = TaskRules(task, self.unit.potential.domains[task])
            pairs.append(
                self._rules[task].charge_and_spin(
                    numbers.numpy(),
                    periodic=bool(converted.pbc[i].any()),
                    charge=int(converted.charge[i]),
                    spin=int(converted.spin[i]),
                    where=f"Structure {converted.sid[i] or i!r}",
                )
            )
        charge, spin = torch.tensor(pairs, dtype=torch.int64).T.to(converted.pos.device)
        return replace(converted, dataset=tasks, charge=charge, spin=spin)


def load_predict_unit(
    path: str | Path,
    inference_settings: InferenceSettings | str = "default",
    overrides: Mapping[str, Any] | None = None,
    device: str | None = None,
    atom_refs: Mapping[Any, Any] | None = None,
    form_elem_refs: Mapping[Any, Any] | None = None,
    workers: int = 1,
    seed: int | None = None,
    **options: Any,
) -> MLIPPredictUnit:
    """Load a checkpoint from a file.

    Args:
        path: The file.
        inference_settings: A preset's name or settings.
        overrides: Settings of the model to change, such as ``{"backbone": {"max_neighbors": 50}}``.
        device: Where to compute; None takes a GPU where there is one.
        atom_refs: Energies of isolated atoms by task and atomic number, in eV.
        form_elem_refs: Formation reference energies by task and element symbol, in eV.
        workers: Processes that compute each structure together; more than 1 needs Ray.
        seed: Accepted with a warning: nothing is drawn at random.
        **options: Refused, with their names.

    Raises:
        AdatomError: If the file cannot be read, or an argument cannot be used.
    """
    refuse_options(options)
    say_that_seeds_do_nothing(seed)
    settings = settings_of(inference_settings)
    return MLIPPredictUnit(
        pretrained_mlip.load_predict_unit(
            path, settings, overrides, device, atom_refs, form_elem_refs, workers
        )
    )


def say_that_seeds_do_nothing(seed: int | None) -> None:
    """Warn if a seed was given."""
    if seed is not None:
        warnings.warn(
            "The seed is left out: predictions draw no random numbers, and no global seed is set.",
            UserWarning,
            stacklevel=3,
        )


def refuse_options(options: Mapping[str, Any]) -> None:
    """Refuse arguments that have no counterpart, unless they are None.

    Raises:
        ConfigError: If there are any.
    """
    named = [f"{name}={value!r}" for name, value in options.items() if value is not None]
    if named:
        raise ConfigError(
            f"There is no counterpart of {', '.join(named)} here",
            fix="Leave it out.",
        )
