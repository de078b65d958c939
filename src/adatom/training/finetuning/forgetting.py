"""Errors of a potential before and after a fine-tuning, on structures of the base's domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from adatom.core.console import print_table
from adatom.core.errors import MissingLabelError
from adatom.data.atomic_data import AtomicData
from adatom.tasks.potential import Potential
from adatom.training.evaluation import Evaluation
from adatom.training.finetuning.predictions import batches

#: Errors by dataset, property and metric, in eV and angstrom.
Errors: TypeAlias = dict[str, dict[str, dict[str, float]]]

#: Property to metric to (heading, factor to the unit of the heading).
_SHOWN: Mapping[str, Mapping[str, tuple[str, float]]] = {
    "energy": {"per_atom_mae": ("energy meV/atom", 1000.0)},
    "forces": {"mae": ("forces meV/A", 1000.0)},
}


def errors_of(potential: Potential, systems: Sequence[AtomicData]) -> Errors:
    """Return mean absolute errors by dataset, property and metric, in eV and angstrom.

    Args:
        potential: Must know the datasets of ``systems``.
        systems: Single systems without edges; labels that they lack are not measured.

    Raises:
        MissingLabelError: If no structure has an energy or forces.
        OutOfDomainError: If the potential never saw an element, charge or spin.
        UnknownNameError: If it does not know a dataset.
    """
    known = {prop for prop in _SHOWN if any(prop in system.labels for system in systems)}
    if not known:
        raise MissingLabelError("No structure of the set to be measured has an energy or forces")
    for system in systems:
        potential.check_input(system)
    datasets = sorted({system.dataset[0] for system in systems})
    tasks = [
        replace(task, datasets=[d], name=f"{d}_{task.property}", metrics=[*_SHOWN[task.property]])
        for task in potential.tasks
        for d in task.datasets
        if d in datasets and task.property in known
    ]
    evaluation = Evaluation(potential, [replace(task, loss_fn=None) for task in tasks])
    for batch in batches(potential, systems):
        evaluation.add(batch)
    # One process measures, while the others have nothing to do or are gone.
    values = evaluation.values(of_all_ranks=False)
    single = len(potential.datasets) == 1
    out: Errors = {}
    for dataset in datasets:
        for prop, metrics in _SHOWN.items():
            for name in metrics:
                key = f"{prop}_{name}" if single else f"{dataset}/{prop}_{name}"
                if key in values:
                    out.setdefault(dataset, {}).setdefault(prop, {})[name] = values[key]
    return out


def got_worse(before: Errors, after: Errors) -> list[str]:
    """Return the datasets none of whose errors became smaller."""
    return [
        dataset
        for dataset, props in before.items()
        if all(
            after[dataset][prop][name] >= value
            for prop, metrics in props.items()
            for name, value in metrics.items()
        )
    ]


def show_change(
    title: str,
    before: Errors,
    after: Errors,
) -> None:
    """Print errors before and after side by side.

    Args:
        title: Above the table.
        before: See :func:`errors_of`.
        after: The same datasets.
    """
    rows = []
    for dataset, props in before.items():
        for prop, metrics in _SHOWN.items():
            for name, (heading, factor) in metrics.items():
                old = props.get(prop, {}).get(name)
                if old is not None:
                    new = after[dataset][prop][name]
                    change = f"{100 * (new / old - 1):+.1f} %" if old > 0 else ""
                    rows.append((dataset, heading, factor * old, factor * new, change))
    print_table(title, ("dataset", "mean absolute error", "before", "after", "change"), rows)
