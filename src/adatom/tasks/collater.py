"""From single systems of several datasets to one batch in which only the tasks' labels are left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from adatom.core.errors import MissingLabelError, unknown_name
from adatom.data.atomic_data import AtomicData, collate
from adatom.tasks.objective import filter_inference_only_tasks
from adatom.tasks.task import Task


def mt_collater_adapter(
    tasks: Sequence[Task], *, strict: bool = False
) -> Callable[[Sequence[AtomicData]], AtomicData]:
    """Return a function that makes a batch for these tasks.

    Labels that no task of the system's dataset predicts are dropped. What a system lacks is NaN in
    the batch, and masked by :func:`adatom.tasks.objective.get_output_mask`.

    Args:
        tasks: Those that are inference-only do not count.
        strict: Refuse a system that lacks a label of one of its tasks; a row of NaN is a label
            that is known to be missing.

    Raises:
        UnknownNameError: From the function: no task serves the dataset of a system.
        MissingLabelError: From the function: with ``strict``, a label is missing.
    """
    wanted: dict[str, set[str]] = {}
    for task in filter_inference_only_tasks(tasks):
        for dataset in task.datasets:
            wanted.setdefault(dataset, set()).add(task.property)

    def of_tasks(system: AtomicData) -> AtomicData:
        dataset = system.dataset[0]
        if dataset not in wanted:
            raise unknown_name("dataset with a trained task", dataset, wanted)
        missing = sorted(wanted[dataset] - set(system.labels))
        if strict and missing:
            raise MissingLabelError(
                f"Structure {system.sid[0]!r} has no label {missing[0]!r}",
                expected=f"the labels {', '.join(sorted(wanted[dataset]))} of {dataset!r}",
                fix="Give it as NaN if it is not known, or leave strict out.",
            )
        labels = {name: v for name, v in system.labels.items() if name in wanted[dataset]}
        return replace(system, labels=labels)

    def collater(systems: Sequence[AtomicData]) -> AtomicData:
        return collate([of_tasks(system) for system in systems])

    return collater
