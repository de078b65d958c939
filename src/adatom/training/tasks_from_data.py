"""From the facts about the data and the chosen losses to the tasks of a potential."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from adatom.core.errors import MissingLabelError
from adatom.tasks.metrics import DEFAULT_METRICS
from adatom.tasks.task import Normalizer, OutputSpec, Task
from adatom.training.sources import DatasetFacts

_SPECS: dict[str, tuple[Literal["system", "atom"], OutputSpec]] = {
    "energy": ("system", OutputSpec((1,), "float64")),
    "forces": ("atom", OutputSpec((3,))),
    "stress": ("system", OutputSpec((3, 3), "float64")),
}


def build_tasks(
    facts: Mapping[str, DatasetFacts],
    losses: Mapping[str, Mapping[str, Any]],
    *,
    metrics: Mapping[str, Sequence[str]] | None = None,
) -> list[Task]:
    """Make the energy, forces and stress task of every dataset.

    All three share one scale, because forces and stress are derivatives of the energy. A property
    without a loss, or without labels in that dataset, can be predicted but is not trained.

    Args:
        facts: By dataset name.
        losses: From property to its loss; see :func:`adatom.tasks.losses.build_loss`.
        metrics: From property to names; default :data:`adatom.tasks.metrics.DEFAULT_METRICS`.

    Raises:
        MissingLabelError: If no dataset has the labels of a loss.
    """
    for prop in losses:
        if not any(fact.labelled.get(prop) for fact in facts.values()):
            there = sorted({name for fact in facts.values() for name in fact.labelled})
            raise MissingLabelError(
                f"There is a loss of {prop}, but no training structure has the label {prop!r}",
                expected=f"losses among the labels that are there: {', '.join(there)}",
                fix=f"Name the label's key with label_keys, or drop losses.{prop}.",
            )
    chosen = metrics or DEFAULT_METRICS
    tasks = []
    for dataset, fact in facts.items():
        for prop, (level, spec) in _SPECS.items():
            trained = prop in losses and bool(fact.labelled.get(prop))
            tasks.append(
                Task(
                    name=f"{dataset}_{prop}",
                    level=level,
                    property=prop,
                    out_spec=spec,
                    normalizer=Normalizer(0.0, fact.scale),
                    datasets=[dataset],
                    loss_fn=dict(losses[prop]) if trained else None,
                    element_references=fact.references if prop == "energy" else None,
                    metrics=list(chosen.get(prop, ())),
                    inference_only=not trained,
                )
            )
    return tasks
