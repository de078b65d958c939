"""A loaded potential, prepared to predict."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch
from ase import Atoms

from adatom.core.errors import ConfigError, DataError, NonFiniteError, unknown_name
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData, collate
from adatom.data.validation import validate
from adatom.inference.prediction import Prediction
from adatom.models.gradients import cell_volume
from adatom.tasks.potential import DEFAULT_PROPERTIES, PROPERTIES, Potential

#: What :meth:`MLIPPredictUnit.predict` accepts.
Structures = AtomicData | Atoms | Sequence[AtomicData | Atoms]


class MLIPPredictUnit:
    """Predicts physical values for structures of any number and kind.

    Args:
        potential: The potential. It is left as it is: a copy is made where its dtype, device or
            mode has to change.
        device: Where to compute.
        dtype: Floating dtype of the network; None keeps the potential's.
        max_atoms: Atoms computed at once; larger inputs are split between systems.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(
        self,
        potential: Potential,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        max_atoms: int = 512,
    ) -> None:
        if max_atoms < 1:
            raise ConfigError(f"max_atoms is {max_atoms}", expected="at least 1")
        self.device = torch.device(device)
        self.max_atoms = max_atoms
        self.potential = _prepared(potential, self.device, dtype or potential.dtype)

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        max_atoms: int = 512,
    ) -> MLIPPredictUnit:
        """Load a checkpoint by name (such as ``"default"``) or path.

        Raises:
            CheckpointError: If the file is damaged or not a checkpoint.
            FileAccessError: If there is no such file.
            UnknownNameError: If there is no such name.
        """
        from adatom.checkpoint.format import load_potential

        potential = load_potential(name_or_path, dtype=dtype, device=str(device))
        potential.eval().requires_grad_(False)
        return cls(potential, device=device, dtype=dtype, max_atoms=max_atoms)

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the network."""
        return self.potential.dtype

    def resolve_task(self, task_name: str | None) -> str:
        """Return the dataset whose level of theory is meant.

        Args:
            task_name: A dataset of the potential; None means the only one.

        Raises:
            UnknownNameError: If the potential has no such dataset.
            ConfigError: If None is given and there are several.
        """
        known = self.potential.datasets
        if task_name is None:
            if len(known) == 1:
                return known[0]
            raise ConfigError(
                "This potential has several tasks and none was chosen",
                expected=f"a task name among: {', '.join(known)}",
            )
        if task_name not in known:
            raise unknown_name("task", task_name, known)
        return task_name

    def predict(
        self,
        data: Structures,
        properties: Collection[str] | None = None,
        *,
        task_name: str | None = None,
    ) -> Prediction:
        """Predict energies and their derivatives in physical units.

        Args:
            data: One system or batch, or a list; edges are built where there are none.
            properties: Among ``energy``, ``forces``, ``stress``, ``energies``; None means all that
                the systems have.
            task_name: The level of theory for ASE structures (see :meth:`resolve_task`); an
                AtomicData knows its own (``dataset``).

        Returns:
            Detached tensors; see :class:`Prediction`.

        Raises:
            DataError: If a structure is unusable.
            OutOfDomainError: If a structure has an element, charge or spin that was never seen.
            UnknownNameError: If a task or property is not known.
            NonFiniteError: If a prediction is NaN or infinite.
        """
        wanted = _checked_properties(properties)
        systems = self._systems(data, task_name)
        for system in systems:
            self.potential.check_input(system)
        parts = [self._predict_batch(batch, wanted) for batch in self._batches(systems)]
        sids = [sid for system in systems for sid in system.sid]
        absent = _absent(systems, wanted)
        if "stress" in wanted and len(absent.get("stress", {})) == len(sids):
            wanted = [name for name in wanted if name != "stress"]
        values = {name: torch.cat([part[name] for part in parts]) for name in wanted}
        _require_finite(values, systems, sids, absent)
        return Prediction(values, sids, absent)

    def _systems(self, data: Structures, task_name: str | None) -> list[AtomicData]:
        items = [data] if isinstance(data, AtomicData | Atoms) else list(data)
        if not items:
            raise DataError("There is no structure to predict", expected="at least one")
        systems: list[AtomicData] = []
        for item in items:
            if isinstance(item, Atoms):
                system = from_ase(item, dataset=self.resolve_task(task_name), label_keys={})
                validate(system)
                systems.append(system)
            elif item.num_systems == 1:
                systems.append(item)
            else:
                systems.extend(item.unbatch())
        return systems

    def _batches(self, systems: Sequence[AtomicData]) -> Iterator[AtomicData]:
        """Join systems in order, up to ``max_atoms`` each; a larger system goes alone."""
        waiting: list[AtomicData] = []
        atoms = 0
        for system in systems:
            if waiting and atoms + system.num_atoms > self.max_atoms:
                yield collate(waiting)
                waiting, atoms = [], 0
            waiting.append(system)
            atoms += system.num_atoms
        yield collate(waiting)

    def _predict_batch(
        self, batch: AtomicData, properties: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        potential = self.potential
        batch = batch.to(self.device)
        if batch.edges is None:
            batch = batch.with_edges(potential.cutoff, max_neighbors=potential.max_neighbors)
        # The potential turns gradients on again where it needs them.
        with torch.no_grad():
            raw = potential(batch, properties)
            out = potential.denormalize(raw, batch)
        return {name: out[name].detach() for name in properties}


def _prepared(potential: Potential, device: torch.device, dtype: torch.dtype) -> Potential:
    """Return the potential ready for inference, as a copy unless it already is."""
    if not dtype.is_floating_point:
        raise ConfigError(f"The dtype is {dtype}", expected="a floating type such as float32")
    parameters = list(potential.parameters())
    ready = not potential.training and all(
        p.dtype == dtype and p.device == device and not p.requires_grad for p in parameters
    )
    if ready:
        return potential
    return copy.deepcopy(potential).to(device=device, dtype=dtype).eval().requires_grad_(False)


def _checked_properties(properties: Collection[str] | None) -> list[str]:
    if properties is None:
        return list(DEFAULT_PROPERTIES)
    for name in properties:
        if name not in PROPERTIES:
            raise unknown_name("property", name, PROPERTIES)
    if not properties:
        raise ConfigError("No property was asked for", expected=", ".join(PROPERTIES))
    return [name for name in PROPERTIES if name in properties]


def _absent(systems: Sequence[AtomicData], properties: Sequence[str]) -> dict[str, dict[int, str]]:
    """Name the systems that have no volume, hence no stress."""
    if "stress" not in properties:
        return {}
    volumes = cell_volume(torch.cat([system.cell.detach() for system in systems]))
    without = torch.nonzero(volumes == 0).flatten().tolist()
    return {"stress": dict.fromkeys(without, "it has no cell, hence no volume")} if without else {}


def _require_finite(
    values: dict[str, torch.Tensor],
    systems: Sequence[AtomicData],
    sids: Sequence[str],
    absent: dict[str, dict[int, str]],
) -> None:
    """Refuse NaN or infinite predictions, naming the first such structure."""
    owner = torch.repeat_interleave(
        torch.arange(len(sids)), torch.cat([system.natoms.cpu() for system in systems])
    )
    for name, value in values.items():
        bad = ~torch.isfinite(value.flatten(1) if value.dim() > 1 else value[:, None]).all(1).cpu()
        if name in absent:
            bad[list(absent[name])] = False
        if bool(bad.any()):
            row = int(torch.nonzero(bad)[0])
            system = int(owner[row]) if name in ("forces", "energies") else row
            raise NonFiniteError(
                f"The predicted {name} of structure {sids[system]!r} is NaN or infinite",
                fix="Check the structure for atoms that are far too close.",
            )
