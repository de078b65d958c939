"""From labels in physical units to what the network is asked for, and which rows count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from adatom.core.errors import MissingLabelError
from adatom.data.atomic_data import AtomicData
from adatom.tasks.potential import Potential


class Target(NamedTuple):
    """Labels of one property in network units.

    Attributes:
        values: ``[R, ...]`` float64; NaN where there is no label.
        mask: ``[R]`` bool; rows that have a finite label and are to be trained on.
        natoms: ``[R]`` float64 atoms of each row's system.
    """

    values: torch.Tensor
    mask: torch.Tensor
    natoms: torch.Tensor


def normalized_target(potential: Potential, data: AtomicData, prop: str) -> Target:
    """Convert the labels of a batch to network units.

    Element references are subtracted in float64, before anything is rounded: total energies of
    heavy systems lose whole millielectronvolts in float32.

    Args:
        potential: Holds each dataset's task with its normalizer and references.
        data: A batch.
        prop: ``"energy"``, ``"forces"`` or ``"stress"``.

    Raises:
        MissingLabelError: If no system of the batch has the label.
        UnknownNameError: If a system's dataset has no task for the property.
    """
    label = label_of(data, prop)
    tasks = [potential.task_for(dataset, prop) for dataset in data.dataset]
    if prop == "energy":
        references = potential.reference_energies(data)
        label = label - torch.zeros_like(label).index_add(0, data.batch, references)
    mean = label.new_tensor([task.normalizer.mean for task in tasks])
    rmsd = label.new_tensor([task.normalizer.rmsd for task in tasks])
    if prop == "forces":
        mean, rmsd = mean[data.batch], rmsd[data.batch]
    shape = (-1, *([1] * (label.dim() - 1)))
    values = (label - mean.view(shape)) / rmsd.view(shape)
    mask = row_mask(data, label, prop, [task.train_on_free_atoms for task in tasks])
    return Target(values, mask, row_natoms(data, prop))


def label_of(data: AtomicData, prop: str) -> torch.Tensor:
    """Return a label in float64.

    Raises:
        MissingLabelError: If no system of the batch has it.
    """
    if prop not in data.labels:
        raise MissingLabelError(
            f"Structure {data.sid[0]!r} and the others of its batch have no label {prop!r}",
            expected=f"one of: {', '.join(sorted(data.labels)) or '(no labels at all)'}",
            fix="Name the label's key in the file with label_keys, or drop its loss.",
        )
    return data.labels[prop].double()


def row_mask(
    data: AtomicData, label: torch.Tensor, prop: str, free_only: Sequence[bool]
) -> torch.Tensor:
    """Return ``[R]`` bool: rows with a finite label.

    Args:
        data: A batch.
        label: ``[R, ...]``.
        prop: Property of ``label``.
        free_only: One per system: leave the forces on fixed atoms out.
    """
    mask = label.isfinite().flatten(1).all(dim=1) if label.dim() > 1 else label.isfinite()
    if prop == "forces":
        mask = mask & ~(data.fixed & torch.tensor(free_only, device=mask.device)[data.batch])
    return mask


def row_natoms(data: AtomicData, prop: str) -> torch.Tensor:
    """Return ``[R]`` float64 atoms of the system that each row belongs to."""
    natoms = data.natoms.double()
    return natoms[data.batch] if prop == "forces" else natoms
