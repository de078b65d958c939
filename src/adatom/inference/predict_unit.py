"""A loaded potential, prepared to predict."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from ase import Atoms

from adatom.core.errors import (
    ConfigError,
    DataError,
    UnknownNameError,
    did_you_mean,
    unknown_name,
)
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData
from adatom.data.validation import validate
from adatom.inference.available import checked_properties
from adatom.inference.batch_runner import BatchRunner
from adatom.inference.explanation import explain
from adatom.inference.extra_outputs import ExtraOutput
from adatom.inference.packing import Item
from adatom.inference.prediction import Prediction, join
from adatom.inference.private_copy import prepared
from adatom.inference.settings import InferenceSettings, inference_settings
from adatom.inference.streaming import stream
from adatom.inference.well_formed import check_well_formed
from adatom.tasks.potential import PROPERTIES, Potential

#: What :meth:`MLIPPredictUnit.predict` accepts.
Structures = AtomicData | Atoms | Iterable[AtomicData | Atoms]
Settings = InferenceSettings | str | Mapping[str, Any] | None


class MLIPPredictUnit:
    """Predicts physical values for structures of any number and kind.

    Threads may share a unit.

    Args:
        potential: The potential. It is left as it is: a copy is made, which shares the weights
            where their dtype and device stay.
        inference_settings: A preset (``"default"``, ``"batch"``, ``"turbo"``,
            ``"high-precision"``, ``"traineval"``), settings, or a mapping of settings.
        device: Where to compute.
        dtype: Floating dtype of the network; None takes ``base_precision_dtype`` of the settings,
            else the potential's.
        max_atoms: Atoms computed at once at most, a larger structure goes alone; None leaves it to
            the memory there is.

    Attributes:
        potential: What is used: frozen, in evaluation mode.
        settings: The settings.
        device: Where it computes.

    Raises:
        ConfigError: If an argument cannot be used.
        UnknownNameError: If there is no such preset or setting.
    """

    def __init__(
        self,
        potential: Potential,
        inference_settings: Settings = "default",
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        max_atoms: int | None = None,
    ) -> None:
        if max_atoms is not None and max_atoms < 1:
            raise ConfigError(f"max_atoms is {max_atoms}", expected="at least 1")
        self.settings = _settings(inference_settings)
        self.device = _device(device)
        dtype = dtype or self.settings.dtype or potential.dtype
        self.potential = prepared(potential, self.device, dtype)
        self._runner = BatchRunner(self.potential, self.settings, self.device, max_atoms)

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        inference_settings: Settings = "default",
        *,
        overrides: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        max_atoms: int | None = None,
    ) -> MLIPPredictUnit:
        """Load a checkpoint by name (such as ``"default"``) or path.

        Args:
            name_or_path: See :func:`adatom.checkpoint.format.load_potential`.
            inference_settings: As for the constructor.
            overrides: Arguments of the backbone that replace those of the checkpoint, as
                ``{"backbone": {"max_neighbors": 100}}``; only such that keep the weights' shapes.
            device: As for the constructor.
            dtype: As for the constructor.
            max_atoms: As for the constructor.

        Raises:
            CheckpointError: If the file is damaged or not a checkpoint.
            FileAccessError: If there is no such file.
            UnknownNameError: If there is no such name, preset or setting.
            ConfigError: If an argument cannot be used.
        """
        from adatom.checkpoint.format import load_potential

        settings = _settings(inference_settings)
        dtype = dtype or settings.dtype
        device = _device(device)
        potential = load_potential(name_or_path, dtype=dtype, device=device)
        override(potential, overrides or {})
        potential.eval().requires_grad_(False)
        return cls(potential, settings, device=device, dtype=dtype, max_atoms=max_atoms)

    @property
    def runner(self) -> BatchRunner:
        """What computes the batches, for those who pack their own."""
        return self._runner

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what the unit holds besides memory: here nothing."""

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
            data: One system or batch, or any number of them (a list, a generator); edges are built
                where there are none.
            properties: Among ``energy``, ``forces``, ``stress``, ``energies``, ``virials``,
                ``hessian`` (one system), ``embeddings``, and those of :meth:`add_output`; None
                means the first four, as far as the systems have them.
            task_name: The level of theory for ASE structures (see :meth:`resolve_task`); an
                AtomicData knows its own (``dataset``).

        Returns:
            Detached tensors; see :class:`Prediction`.

        Raises:
            DataError: If a structure is unusable.
            OutOfDomainError: If a structure has an element, charge or spin that was never seen.
            UnknownNameError: If a task or property is not known.
            NonFiniteError: If a prediction is NaN or infinite.
            OutOfMemoryError: If a structure does not fit into memory, naming it.
        """
        names = checked_properties(properties, self._runner.extras)
        if isinstance(data, Atoms):
            data = self._convert(data, task_name)
        if isinstance(data, AtomicData):
            whole = self._runner.whole(data, names)
            if whole is not None:
                return whole
        parts = list(stream(self._runner, self._items(data, task_name), names))
        if not parts:
            raise DataError("There is no structure to predict", expected="at least one")
        return join(parts, (*PROPERTIES, *self._runner.extras))

    def iter_predict(
        self,
        structures: Structures,
        properties: Collection[str] | None = None,
        *,
        task_name: str | None = None,
    ) -> Iterator[Prediction]:
        """Predict one structure after the other, computed in batches, in the memory of one batch.

        Args:
            structures: As ``data`` of :meth:`predict`; a generator is asked only for what the
                next batch needs.
            properties: As for :meth:`predict`.
            task_name: As for :meth:`predict`.

        Yields:
            One prediction per structure, in input order.

        Raises:
            DataError: As :meth:`predict`, when the structure's turn comes.
        """
        names = checked_properties(properties, self._runner.extras)
        return stream(self._runner, self._items(structures, task_name), names)

    def add_output(self, name: str, output: ExtraOutput) -> None:
        """Make a further property available, such as an uncertainty.

        Args:
            name: How it is asked for in ``properties``.
            output: Computes it.

        Raises:
            ConfigError: If the name is taken.
        """
        if name in PROPERTIES or name in self._runner.extras:
            raise ConfigError(f"There is a property {name!r} already", fix="Choose another name.")
        self._runner.extras[name] = output

    def explain(self, structure: AtomicData | Atoms | None = None) -> str:
        """Say what was chosen for this model, machine and input, and why.

        Args:
            structure: Predicted first, so that the choices for it are known. An AtomicData, or an
                ASE structure if the potential has one task.
        """
        edges = None
        if structure is not None:
            data = structure if isinstance(structure, AtomicData) else self._convert(structure)
            check_well_formed(data)
            data = self._runner.with_edges(data)
            self.predict(data)
            edges = 0 if data.edges is None else int(data.edges.index.shape[1])
        return explain(self._runner, edges)

    def _items(self, data: Structures, task_name: str | None) -> Iterator[Item]:
        """Number single structures, converted and checked as they come."""
        number = 0
        if not isinstance(data, AtomicData | Atoms | Iterable):
            raise _no_structure(data)
        for given in [data] if isinstance(data, AtomicData | Atoms) else data:
            for system in self._singles(given, task_name):
                yield Item(number, system, self._runner.key(system))
                number += 1

    def _singles(self, given: Any, task_name: str | None) -> Sequence[AtomicData]:
        if isinstance(given, Atoms):
            return [self._convert(given, task_name)]
        if not isinstance(given, AtomicData):
            raise _no_structure(given)
        if given.num_systems == 1:
            return [given]
        check_well_formed(given)
        return given.unbatch()

    def _convert(self, atoms: Atoms, task_name: str | None = None) -> AtomicData:
        system = from_ase(atoms, dataset=self.resolve_task(task_name), label_keys={})
        validate(system)
        return system


def _no_structure(given: object) -> DataError:
    return DataError(
        f"A structure is a {type(given).__name__}", expected="an AtomicData or an ASE Atoms object"
    )


def _settings(settings: Settings) -> InferenceSettings:
    return inference_settings(settings)


def _device(device: torch.device | str) -> torch.device:
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(
            f"There is no device {device!r}", expected="'cpu', 'cuda', 'cuda:0', 'mps', ..."
        ) from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"The device {str(device)!r} cannot be used: torch sees no CUDA device here",
            fix="Use device='cpu', or install torch with CUDA.",
        )
    if str(found) == "cuda":
        found = torch.device("cuda", torch.cuda.current_device())
    return found


def override(potential: Potential, overrides: Mapping[str, Any]) -> None:
    """Change attributes of the backbone that do not concern the weights.

    Args:
        potential: Is changed.
        overrides: As ``{"backbone": {"max_neighbors": 100}}``.

    Raises:
        UnknownNameError: If a name is not among those that can be changed.
        ConfigError: If a value cannot be used.
    """
    unknown = sorted(set(overrides) - {"backbone"})
    if unknown:
        raise unknown_name("part in overrides", unknown[0], ["backbone"])
    for name, value in dict(overrides.get("backbone", {})).items():
        if name not in _OVERRIDES:
            raise UnknownNameError(
                f"The backbone's {name!r} cannot be overridden{did_you_mean(name, _OVERRIDES)}",
                expected=f"one of: {', '.join(_OVERRIDES)}",
            )
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ConfigError(f"{name} is {value!r}", expected="a whole number, or None")
        setattr(potential.backbone, name, value)


_OVERRIDES = ("max_neighbors",)
