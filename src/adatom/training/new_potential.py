"""The potential of a training: made from its parts and the data, or taken over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adatom.core.console import say
from adatom.models.base import Backbone, Head
from adatom.tasks.potential import Potential
from adatom.tasks.task import Task
from adatom.training.data_module import AtomisticDataModule
from adatom.training.reduction import rank
from adatom.training.tasks_from_data import check_scales, with_losses

#: From how many training structures a network takes its fixed numbers.
_SCALE_STRUCTURES = 64


def new_potential(
    backbone: Backbone, head: Head, tasks: Sequence[Task], data: AtomisticDataModule
) -> Potential:
    """Join a network and tasks; the domain and fixed scales are those of the training data.

    Args:
        backbone: The network.
        head: From its features to energies.
        tasks: Complete.
        data: Set up for a training.

    Raises:
        ConfigError: If the scales of the tasks contradict each other.
        OutOfDomainError: If validation structures have elements that no training structure has.
    """
    check_scales(tasks, head.gives)
    domains = {name: fact.domain for name, fact in data.facts.items()}
    metadata = {"training_data": data.fingerprints}
    potential = Potential(backbone, head, tasks, domains, metadata=metadata)
    check_inputs(potential, data)
    if type(backbone).learn_scales is not Backbone.learn_scales:
        learned = backbone.learn_scales(data.sample("train", _SCALE_STRUCTURES))
        if learned is not None and rank() == 0:
            say(learned)
    return potential


def with_tasks(
    potential: Potential, tasks: Sequence[Task], metadata: Mapping[str, Any] | None = None
) -> Potential:
    """Return a potential of the same modules with other tasks.

    Args:
        potential: Its backbone and head are shared.
        tasks: Complete.
        metadata: Added to that of ``potential``.

    Raises:
        ConfigError: If the scales of the tasks contradict each other.
    """
    check_scales(tasks, potential.head.gives)
    return Potential(
        potential.backbone,
        potential.head,
        tasks,
        potential.domains,
        metadata={**potential.metadata, **(metadata or {})},
    )


def retrained(
    potential: Potential,
    losses: Mapping[str, Mapping[str, Any]] | None,
    data: AtomisticDataModule,
) -> Potential:
    """Return a potential of the same modules for a further training.

    Args:
        potential: Its backbone and head are shared.
        losses: By property, instead of those of its tasks; None keeps them.
        data: Set up for a training.

    Raises:
        ConfigError: If the scales of the tasks contradict each other.
        UnknownNameError: If a dataset has no task.
        OutOfDomainError: If an element, charge or spin was never seen.
    """
    tasks = list(potential.tasks) if losses is None else with_losses(potential.tasks, losses)
    again = with_tasks(potential, tasks, {"training_data": data.fingerprints})
    check_inputs(again, data)
    return again


def check_inputs(potential: Potential, data: AtomisticDataModule) -> None:
    """Refuse structures that the potential is not for.

    Raises:
        UnknownNameError: If a dataset has no task.
        OutOfDomainError: If an element, charge or spin was never seen.
    """
    for part in ("train", "val") if data.has_validation else ("train",):
        for system in data.examples(part):
            potential.check_input(system)
