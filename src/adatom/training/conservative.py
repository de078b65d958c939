"""From a potential with forces of their own to one whose forces are derivatives of the energy.

Direct forces need no second derivatives, so that most of a training is cheap with them; a shorter
training afterwards makes the forces conservative (Fu et al., eSEN, 2025; Wood et al., UMA, 2025).
"""

from __future__ import annotations

import copy
from dataclasses import replace

from adatom.core.errors import ConfigError
from adatom.models.base import Backbone, Head
from adatom.models.heads import Heads
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer


def to_conservative(potential: Potential, *, max_neighbors: int | None = None) -> Potential:
    """Return a potential with the same backbone and energy head, and no other head.

    Its energies are those of ``potential``; forces and stress are their derivatives.

    Args:
        potential: With direct heads; it is not changed.
        max_neighbors: A new limit of the neighbor list; None keeps the old one. Direct
            pre-training often has a low limit, under which energies are not smooth.

    Raises:
        ConfigError: If the potential has no direct head, or its backbone has no such limit.
    """
    if not potential.direct_properties:
        raise ConfigError(
            "The forces of this potential are derivatives of its energy already",
            expected="a potential with a head for forces or stress",
        )
    rmsd = {
        dataset: task.normalizer.rmsd
        for task in potential.tasks
        if task.property == "energy"
        for dataset in task.datasets
    }
    tasks = []
    for task in potential.tasks:
        if task.property == "energy":
            tasks.append(task)
            continue
        # A direct head may have had a scale of its own; a derivative has that of the energy.
        of_energy = {rmsd[dataset] for dataset in task.datasets if dataset in rmsd}
        if len(of_energy) > 1:
            raise ConfigError(
                f"Task {task.name!r} serves datasets whose energies have different scales",
                fix="Pre-train with one task per dataset, or with data.scale: shared.",
            )
        scale = of_energy.pop() if of_energy else task.normalizer.rmsd
        tasks.append(replace(task, normalizer=Normalizer(0.0, scale)))
    return Potential(
        _backbone(potential.backbone, max_neighbors),
        _energy_head(potential.head),
        tasks,
        potential.domains,
        metadata=potential.metadata,
    )


def _backbone(backbone: Backbone, max_neighbors: int | None) -> Backbone:
    if max_neighbors is None or max_neighbors == backbone.max_neighbors:
        return copy.deepcopy(backbone)
    if "max_neighbors" not in backbone.init_args:
        raise ConfigError(f"{type(backbone).__name__} has no argument max_neighbors")
    other = type(backbone)(**backbone.init_args | {"max_neighbors": max_neighbors})
    other.load_state_dict(backbone.state_dict())
    return other.to(next(backbone.parameters()))


def _energy_head(head: Head) -> Head:
    if not isinstance(head, Heads):
        raise ConfigError(
            f"{type(head).__name__} gives {' and '.join(head.gives)} in one",
            expected="Heads, whose energy head can be kept without the others",
        )
    for name, part in head.heads.items():
        if not isinstance(part, Head):
            continue
        if part.gives == ("energies",):
            return copy.deepcopy(part)
        if "energies" in part.gives:
            raise ConfigError(
                f"The head {name!r} gives {' and '.join(part.gives)} in one",
                expected="an energy head that can be kept without the others",
            )
    raise ConfigError("The potential has no head for energies")
