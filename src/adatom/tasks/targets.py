"""From labels in physical units to what the network is asked for, and which rows count.

A row is an atom or a system, as the task's level says. What counts is decided from the level and
the shape of a row, never from a name: an atom counts if all components of its label are finite, a
component of a system's tensor (stress) if that component is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from ase.data import chemical_symbols
from torch import nn

from adatom.core.errors import DataError
from adatom.data.atomic_data import AtomicData
from adatom.tasks.task import Task


class Target(NamedTuple):
    """Labels of one task in network units.

    Attributes:
        values: ``[R, ...]`` float64; anything where ``mask`` is false.
        mask: ``[R]`` bool, or ``[R, ...]`` for tensors of systems: what is to be trained on.
        natoms: ``[R]`` float64 atoms of each row's system.
        systems: ``[R]`` int64 system of each row.
        num_systems: Number of systems in the batch.
    """

    values: torch.Tensor
    mask: torch.Tensor
    natoms: torch.Tensor
    systems: torch.Tensor
    num_systems: int


def task_target(task: Task, data: AtomicData) -> Target:
    """Convert the labels of a task to network units.

    Element references are subtracted in float64, before anything is rounded: total energies of
    heavy systems lose whole millielectronvolts in float32.

    Args:
        task: Its ``train_on_free_atoms`` decides whether fixed atoms count.
        data: A batch; systems of other datasets and missing labels do not count.

    Raises:
        DataError: If a label has another shape than the task says.
    """
    mask = served(task, labelled(task, data), data)
    values = task.normalizer.norm(labels_of(task, data) - references_of(task, data))
    if task.level == "atom" and task.train_on_free_atoms:
        mask = mask & ~data.fixed
    systems = row_systems(task, data)
    return Target(values, mask, data.natoms.double()[systems], systems, data.num_systems)


def labels_of(task: Task, data: AtomicData) -> torch.Tensor:
    """Return the labels of a task's property ``[R, ...]`` in float64, NaN if the batch has none.

    Raises:
        DataError: If they have another shape than the task says.
    """
    rows = data.num_atoms if task.level == "atom" else data.num_systems
    # A scalar is one number per row, not a row of one number.
    shape = (rows,) if task.out_spec.dim == (1,) else (rows, *task.out_spec.dim)
    label = data.labels.get(task.property)
    if label is None:
        return torch.full(shape, torch.nan, dtype=torch.float64, device=data.pos.device)
    if label.shape != shape:
        raise DataError(
            f"The label {task.property!r} of the batch with structure {data.sid[0]!r} has shape "
            f"{tuple(label.shape)}",
            expected=f"{shape}, as task {task.name!r} says",
        )
    return label.double()


def labelled(task: Task, data: AtomicData) -> torch.Tensor:
    """Return where a task's property has a label: ``[R]`` bool, ``[R, ...]`` for system tensors."""
    finite = labels_of(task, data).isfinite()
    return finite.flatten(1).all(dim=1) if task.level == "atom" and finite.dim() > 1 else finite


def served(task: Task, mask: torch.Tensor, data: AtomicData) -> torch.Tensor:
    """Return ``mask`` without the rows of systems of other datasets than the task's."""
    return (
        mask
        if set(data.dataset) <= set(task.datasets)
        else mask & of_datasets(task, data, task.datasets, mask.dim())
    )


def of_datasets(task: Task, data: AtomicData, names: Sequence[str], dim: int) -> torch.Tensor:
    """Return which rows belong to systems of these datasets: bool, ``[R, 1, ...]`` of ``dim``."""
    own = torch.tensor([name in names for name in data.dataset], device=data.pos.device)
    return own[row_systems(task, data)].view(-1, *([1] * (dim - 1)))


def row_systems(task: Task, data: AtomicData) -> torch.Tensor:
    """Return the system of each row, ``[R]`` int64."""
    return (
        data.batch
        if task.level == "atom"
        else torch.arange(data.num_systems, device=data.pos.device)
    )


def references_of(task: Task, data: AtomicData) -> torch.Tensor:
    """Return the sum of the element references of each system in eV.

    Returns:
        ``[B]`` float64; NaN for systems with an element beyond the table, ``[]`` zero for tasks
        without references.
    """
    table = task.element_references
    if table is None:
        return torch.zeros((), dtype=torch.float64, device=data.pos.device)
    table = table.to(data.pos.device, torch.float64)
    beyond = len(chemical_symbols) - len(table)
    per_atom = nn.functional.pad(table, (0, beyond), value=torch.nan)[data.atomic_numbers]
    return per_atom.new_zeros(data.num_systems).index_add(0, data.batch, per_atom)
