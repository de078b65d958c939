"""The Lightning modules by name, and the presets for the two tasks of Open Catalyst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adatom.core.errors import ConfigError
from adatom.models.base import Backbone, Head
from adatom.models.energy_model import AbstractEnergyModel
from adatom.tasks.potential import Potential
from adatom.tasks.task import Task
from adatom.training.eval_unit import MLIPEvalUnit
from adatom.training.normalize_kwargs import NormalizeKwargs, with_normalizers
from adatom.training.start_from import StartFrom, load_start
from adatom.training.step_loss import LossMean
from adatom.training.tasks_from_data import TaskSpec
from adatom.training.train_unit import DEFAULT_LOSSES, MLIPTrainEvalUnit

__all__ = [
    "IS2RELightningModule",
    "IS2RELitModule",
    "MLIPEvalUnit",
    "MLIPTrainEvalUnit",
    "S2EFLightningModule",
    "S2EFLitModule",
]

#: The error of the whole structure, as the leaderboard counts it.
_RELAXED_LOSSES: dict[str, dict[str, Any]] = {"relaxed_energy": {"name": "mae"}}


class S2EFLightningModule(MLIPTrainEvalUnit):
    """Structure to energy and forces (and stress) of every dataset, each structure weighing alike.

    Args:
        backbone: The network of a new potential.
        head: From its features to energies, and to forces or stress that are predicted directly;
            null takes the network's own.
        gnn: Another name for ``backbone``; it may also be an ``AbstractEnergyModel``.
        start_from: A trained potential instead of a new one, or only its path.
        regress_forces: Train on forces; without, neither forces nor stress are trained, measured
            or predicted. (The potential has them nevertheless, where they are derivatives.)
        normalize_kwargs: Normalizers as numbers; null takes scales and references from the data.
        tasks: See :class:`MLIPTrainEvalUnit`.
        losses: From ``energy``, ``forces``, ``stress`` to ``{name, coefficient, ...}``; null takes
            the usual ones.
        loss_mean: See :class:`MLIPTrainEvalUnit`.
        **options: The others of :class:`MLIPTrainEvalUnit`.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        head: Head | None = None,
        *,
        gnn: Backbone | AbstractEnergyModel | None = None,
        start_from: str | StartFrom | None = None,
        regress_forces: bool = True,
        normalize_kwargs: NormalizeKwargs | None = None,
        tasks: list[TaskSpec] | None = None,
        losses: dict[str, dict[str, Any]] | None = None,
        loss_mean: LossMean = "property",
        **options: Any,
    ) -> None:
        network, potential = _parts(backbone, gnn, start_from, normalize_kwargs, relaxed=False)
        if not regress_forces:
            _refuse_forces(losses, tasks)
            if tasks is None:
                losses = losses or {"energy": dict(DEFAULT_LOSSES["energy"])}
            self.predicted_properties = frozenset({"energy"})
        self._normalize = normalize_kwargs
        super().__init__(
            network,
            head,
            tasks=tasks,
            losses=losses,
            loss_mean=loss_mean,
            potential=potential,
            **options,
        )

    def prepare_tasks(self, tasks: Sequence[Task], direct: Sequence[str]) -> list[Task]:
        """Return the tasks with the given normalizers."""
        return _normalized(tasks, self._normalize, direct)

    def use(self, potential: Potential) -> None:
        """Evaluate this potential instead of training a new one.

        Raises:
            ConfigError: If it predicts relaxed energies.
        """
        _require_kind(potential, relaxed=False)
        super().use(potential)


class IS2RELightningModule(MLIPTrainEvalUnit):
    """Initial structure to relaxed energy, directly, of every dataset.

    The label is ``relaxed_energy``, the energy of the structure that a relaxation of the given one
    ends in. Each dataset has a task of its own, with element references and a scale of its own.

    Args:
        backbone: The network of a new potential.
        head: From its features to energies; null takes the network's own.
        gnn: Another name for ``backbone``; it may also be an ``AbstractEnergyModel``.
        start_from: A potential for relaxed energies instead of a new one, or only its path.
        normalize_kwargs: Normalizer as numbers; null takes scales and references from the data.
        losses: ``{relaxed_energy: {name, coefficient, ...}}``; null takes the absolute error of the
            structure.
        loss_mean: See :class:`MLIPTrainEvalUnit`.
        **options: The others of :class:`MLIPTrainEvalUnit`.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        head: Head | None = None,
        *,
        gnn: Backbone | AbstractEnergyModel | None = None,
        start_from: str | StartFrom | None = None,
        normalize_kwargs: NormalizeKwargs | None = None,
        tasks: list[TaskSpec] | None = None,
        losses: dict[str, dict[str, Any]] | None = None,
        loss_mean: LossMean = "property",
        **options: Any,
    ) -> None:
        network, potential = _parts(backbone, gnn, start_from, normalize_kwargs, relaxed=True)
        named = set(losses or {}) | {task.property for task in tasks or []}
        if named - {"relaxed_energy"}:
            raise ConfigError(
                f"An IS2RE model has a loss of {min(named - {'relaxed_energy'})}",
                expected="relaxed_energy alone; S2EF is for energies and forces",
            )
        self._normalize = normalize_kwargs
        super().__init__(
            network,
            head,
            tasks=tasks,
            losses=losses if tasks is not None else losses or _RELAXED_LOSSES,
            loss_mean=loss_mean,
            potential=potential,
            **options,
        )

    def prepare_tasks(self, tasks: Sequence[Task], direct: Sequence[str]) -> list[Task]:
        """Return the tasks with the given normalizers."""
        return _normalized(tasks, self._normalize, direct)

    def use(self, potential: Potential) -> None:
        """Evaluate this potential instead of training a new one.

        Raises:
            ConfigError: If it predicts no relaxed energies.
        """
        _require_kind(potential, relaxed=True)
        super().use(potential)


#: As the Open Catalyst code spells them.
S2EFLitModule = S2EFLightningModule
IS2RELitModule = IS2RELightningModule


def _parts(
    backbone: Backbone | None,
    gnn: Backbone | AbstractEnergyModel | None,
    start_from: str | StartFrom | None,
    normalize: NormalizeKwargs | None,
    *,
    relaxed: bool,
) -> tuple[Backbone | None, Potential | None]:
    """Return the network of a new potential, or the potential that a training begins from."""
    given = {"backbone": backbone, "gnn": gnn, "start_from": start_from}
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        raise ConfigError(
            f"The model has {' and '.join(names) or 'neither backbone, gnn nor start_from'}",
            expected="a backbone (or gnn) for a new potential, or start_from for a trained one",
        )
    if start_from is None:
        network = backbone if gnn is None else gnn
        if isinstance(network, AbstractEnergyModel):
            from adatom.models.graph_network import as_backbone

            return as_backbone(network), None
        return network, None
    if normalize is not None:
        raise ConfigError(
            "normalize_kwargs is given beside start_from",
            expected="it for a new potential; a trained one has its normalizers",
        )
    start = StartFrom(checkpoint=start_from) if isinstance(start_from, str) else start_from
    potential = load_start(start)
    _require_kind(potential, relaxed=relaxed)
    return None, potential


def _require_kind(potential: Potential, *, relaxed: bool) -> None:
    found = [potential.is_relaxed(dataset) for dataset in potential.datasets]
    if relaxed and not any(found):
        raise ConfigError(
            "The potential predicts energies, not relaxed energies",
            fix="Use 'adatom s2ef' for it; 'adatom is2re relax' relaxes structures with it.",
        )
    if not relaxed and all(found):
        raise ConfigError(
            "The potential predicts relaxed energies, which have no forces",
            fix="Use 'adatom is2re' for it.",
        )


def _refuse_forces(losses: Mapping[str, Any] | None, tasks: Sequence[TaskSpec] | None) -> None:
    trained = set(losses or {}) | {t.property for t in tasks or [] if t.loss_fn is not None}
    for name in sorted(trained & {"forces", "stress"}):
        raise ConfigError(
            f"regress_forces is false, but there is a loss of {name}",
            fix=f"Set regress_forces: true, or drop the loss of {name}.",
        )


def _normalized(
    tasks: Sequence[Task], given: NormalizeKwargs | None, direct: Sequence[str]
) -> list[Task]:
    return list(tasks) if given is None else with_normalizers(tasks, given, direct)
