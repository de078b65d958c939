"""From the facts about the data and the configuration to the tasks of a potential."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from ase.data import atomic_numbers

from adatom.core.errors import ConfigError, MissingLabelError, unknown_name
from adatom.tasks.losses import build_loss
from adatom.tasks.metrics import DEFAULT_METRICS, metric_for
from adatom.tasks.task import Normalizer, OutputSpec, Task
from adatom.training.sources import DatasetFacts, missing_energies

_SPECS: dict[str, tuple[Literal["system", "atom"], OutputSpec]] = {
    "energy": ("system", OutputSpec((1,), "float64")),
    "forces": ("atom", OutputSpec((3,))),
    "stress": ("system", OutputSpec((3, 3), "float64")),
    "relaxed_energy": ("system", OutputSpec((1,), "float64")),
}
_ENERGIES = ("energy", "relaxed_energy")
_MAX_ELEMENTS = 119


@dataclass(slots=True, kw_only=True)
class TaskSpec:
    """A task as a configuration states it; what it leaves open is taken from the data.

    Attributes:
        name: Unique, such as ``omol_energy``.
        property: ``energy``, ``forces``, ``stress`` or ``relaxed_energy``.
        datasets: Datasets that it serves; null means all.
        loss_fn: ``{name, coefficient, reduction, ...}``; null makes a task that is predicted but
            not trained.
        metrics: Names; null takes the usual ones.
        normalizer: ``{mean, rmsd}`` in physical units; null takes the scale of the data.
        element_references: From element symbol to eV per atom, for energies; null fits them.
        train_on_free_atoms: Leave fixed atoms out of the loss.
        eval_on_free_atoms: Leave fixed atoms out of the metrics.
    """

    name: str
    property: str
    datasets: list[str] | None = None
    loss_fn: dict[str, Any] | None = None
    metrics: list[str] | None = None
    normalizer: Normalizer | None = None
    element_references: dict[str, float] | None = None
    train_on_free_atoms: bool = True
    eval_on_free_atoms: bool = True


def build_tasks(
    facts: Mapping[str, DatasetFacts],
    losses: Mapping[str, Mapping[str, Any]],
    *,
    metrics: Mapping[str, Sequence[str]] | None = None,
) -> list[Task]:
    """Make the energy, forces and stress task of every dataset, or the one of its relaxed energy.

    The former three share one scale, because forces and stress are derivatives of the energy. A
    property without a loss, or without labels in that dataset, can be predicted but is not trained.

    Args:
        facts: By dataset name.
        losses: From property to its loss; see :func:`adatom.tasks.losses.build_loss`. With
            ``relaxed_energy`` there is no other.
        metrics: From property to names; default :data:`adatom.tasks.metrics.DEFAULT_METRICS`.

    Raises:
        MissingLabelError: If no dataset has the labels of a loss, or one has no energies.
        ConfigError: If there is a loss of the relaxed energy and another one.
    """
    kinds = ["relaxed_energy"] if "relaxed_energy" in losses else ["energy", "forces", "stress"]
    others = sorted(set(losses) - set(kinds))
    if others:
        raise ConfigError(
            f"There are losses of relaxed_energy and of {' and '.join(others)}",
            expected="relaxed_energy alone: it takes the place of the energy",
        )
    for dataset, fact in facts.items():
        if kinds[0] not in fact.labelled:
            raise missing_energies(dataset, kinds[0], fact.labelled)
    for prop in losses:
        _require_labels(f"a loss of {prop}", prop, list(facts), facts, f"drop losses.{prop}")
    chosen = metrics or DEFAULT_METRICS
    tasks = []
    for dataset, fact in facts.items():
        for prop in kinds:
            level, spec = _SPECS[prop]
            trained = prop in losses and bool(fact.labelled.get(prop))
            tasks.append(
                Task(
                    name=f"{dataset}_{prop}",
                    level=level,
                    property=prop,
                    out_spec=spec,
                    normalizer=Normalizer(0.0, _scale(fact, prop)),
                    datasets=[dataset],
                    loss_fn=dict(losses[prop]) if trained else None,
                    element_references=_fitted(fact, prop),
                    metrics=list(chosen.get(prop, ())),
                    inference_only=not trained,
                )
            )
    return tasks


def resolve_tasks(specs: Sequence[TaskSpec], facts: Mapping[str, DatasetFacts]) -> list[Task]:
    """Complete the tasks of a configuration with what the data say.

    Args:
        specs: At most one for each property of a dataset.
        facts: By dataset name.

    Raises:
        UnknownNameError: If a property, dataset, loss, metric or element is not known.
        MissingLabelError: If no dataset of a task has the labels of its loss.
        ConfigError: If datasets of one task differ in what it leaves open, or a dataset of the
            data has no task.
    """
    done = [_resolve(spec, facts) for spec in specs]
    names = [task.name for task in done]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"Two tasks are called {name!r}", expected="a name for each task")
    for task in done:
        if not task.inference_only:
            what = f"task {task.name!r} with a loss"
            _require_labels(what, task.property, task.datasets, facts, "drop its loss_fn")
    for dataset in facts:
        if not any(dataset in task.datasets for task in done if task.property in _ENERGIES):
            raise ConfigError(
                f"No task has the energy of dataset {dataset!r}, nor its relaxed energy",
                fix="Add one (without loss_fn if it shall not be trained), or drop the data.",
            )
    return done


def with_losses(tasks: Sequence[Task], losses: Mapping[str, Mapping[str, Any]]) -> list[Task]:
    """Return the tasks with other losses.

    Args:
        tasks: Of a potential; they are not changed.
        losses: From property to its loss. Tasks of other properties become inference-only.

    Raises:
        UnknownNameError: If a property, a loss or an argument is not known.
    """
    for prop, spec in losses.items():
        build_loss(prop, spec)
    return [
        replace(
            task,
            loss_fn=dict(losses[task.property]) if task.property in losses else None,
            inference_only=task.property not in losses,
        )
        for task in tasks
    ]


def check_scales(tasks: Sequence[Task], direct: Sequence[str]) -> None:
    """Refuse normalizers that contradict each other: derivatives scale as their energy does.

    Args:
        tasks: Of a potential.
        direct: Properties that have a head of their own, and so any scale.

    Raises:
        ConfigError: If forces or stress of a dataset scale unlike its energy, or have a mean.
    """
    energy = {d: t for t in tasks if t.property == "energy" for d in t.datasets}
    for task in tasks:
        if task.property in _ENERGIES or task.property in direct:
            continue
        for dataset in task.datasets:
            wanted = energy[dataset].normalizer.rmsd if dataset in energy else task.normalizer.rmsd
            if task.normalizer != Normalizer(0.0, wanted):
                raise ConfigError(
                    f"Task {task.name!r} has {task.normalizer}, but the energy of dataset "
                    f"{dataset!r} has rmsd={wanted}, and {task.property} is its derivative",
                    fix="Give both the same rmsd and no mean, or set data.scale: shared.",
                )


def _resolve(spec: TaskSpec, facts: Mapping[str, DatasetFacts]) -> Task:
    if spec.property not in _SPECS:
        raise unknown_name(f"property of task {spec.name!r}", spec.property, _SPECS)
    level, out_spec = _SPECS[spec.property]
    datasets = list(facts) if spec.datasets is None else spec.datasets
    for dataset in datasets:
        if dataset not in facts:
            raise unknown_name(f"dataset of task {spec.name!r}", dataset, facts)
        if spec.property in _ENERGIES and spec.property not in facts[dataset].labelled:
            raise missing_energies(dataset, spec.property, facts[dataset].labelled)
    if spec.loss_fn is not None:
        build_loss(spec.property, spec.loss_fn)
    metrics = DEFAULT_METRICS[spec.property] if spec.metrics is None else spec.metrics
    for name in metrics:
        metric_for(spec.property, name)
    return Task(
        name=spec.name,
        level=level,
        property=spec.property,
        out_spec=out_spec,
        normalizer=spec.normalizer or _normalizer(spec, datasets, facts),
        datasets=list(datasets),
        loss_fn=None if spec.loss_fn is None else dict(spec.loss_fn),
        element_references=_references(spec, datasets, facts),
        metrics=list(metrics),
        train_on_free_atoms=spec.train_on_free_atoms,
        eval_on_free_atoms=spec.eval_on_free_atoms,
        inference_only=spec.loss_fn is None,
    )


def _fitted(fact: DatasetFacts, prop: str) -> torch.Tensor | None:
    """Return the element references of a property that has some."""
    found = {"energy": fact.references, "relaxed_energy": fact.relaxed_references}
    return found.get(prop)


def _scale(fact: DatasetFacts, prop: str) -> float:
    return fact.relaxed_scale if prop == "relaxed_energy" else fact.scale


def _normalizer(
    spec: TaskSpec, datasets: Sequence[str], facts: Mapping[str, DatasetFacts]
) -> Normalizer:
    scales = {_scale(facts[dataset], spec.property) for dataset in datasets}
    if len(scales) != 1:
        raise ConfigError(
            f"The datasets of task {spec.name!r} have {len(scales)} different scales",
            fix="Set data.scale: shared, give the task a normalizer, or one task per dataset.",
        )
    return Normalizer(0.0, scales.pop())


def _references(
    spec: TaskSpec, datasets: Sequence[str], facts: Mapping[str, DatasetFacts]
) -> torch.Tensor | None:
    if spec.property not in _ENERGIES:
        if spec.element_references is not None:
            raise ConfigError(
                f"Task {spec.name!r} is about {spec.property} and has element references",
                expected="them for energies only",
            )
        return None
    if spec.element_references is None:
        if len(datasets) != 1:
            raise ConfigError(
                f"The element references of task {spec.name!r} are those of "
                f"{len(datasets)} datasets",
                fix="Give each dataset an energy task of its own, or set element_references.",
            )
        return _fitted(facts[datasets[0]], spec.property)
    table = torch.zeros(_MAX_ELEMENTS, dtype=torch.float64)
    for symbol, energy in spec.element_references.items():
        if atomic_numbers.get(symbol, 0) == 0:
            raise unknown_name(f"element of task {spec.name!r}", symbol, list(atomic_numbers)[1:])
        table[atomic_numbers[symbol]] = float(energy)
    return table


def _require_labels(
    what: str,
    prop: str,
    datasets: Sequence[str],
    facts: Mapping[str, DatasetFacts],
    otherwise: str,
) -> None:
    chosen = [facts[name] for name in datasets if name in facts]
    if not any(fact.labelled.get(prop) for fact in chosen):
        there = sorted({name for fact in chosen for name in fact.labelled})
        raise MissingLabelError(
            f"There is {what}, but no training structure has the label {prop!r}",
            expected=f"losses among the labels that are there: {', '.join(there)}",
            fix=f"Name the label's key with label_keys, or {otherwise}.",
        )
