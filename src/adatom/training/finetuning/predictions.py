"""Structures, and what a potential says about them outside of any training."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import torch

from adatom.data.atomic_data import AtomicData, collate
from adatom.tasks.potential import Potential
from adatom.training.data_source import DataSource, open_source

#: Atoms that are computed at once.
_ATOMS = 400


def read_systems(sources: Sequence[DataSource]) -> list[AtomicData]:
    """Read every structure of every source, in order.

    Raises:
        DataError: If a structure is not usable.
        FileAccessError: If a file cannot be read.
    """
    found = []
    for source in sources:
        opened = open_source(source)
        found += [opened[i] for i in range(len(opened))]
    return found


def predicted(
    potential: Potential,
    systems: Sequence[AtomicData],
    properties: Collection[str],
    *,
    dataset: str | None = None,
) -> Iterator[tuple[AtomicData, dict[str, torch.Tensor]]]:
    """Yield batches with their predictions in eV and angstrom, in order.

    Args:
        potential: Its weights may be frozen or not.
        systems: Single systems without edges.
        properties: See :meth:`Potential.forward`.
        dataset: Predict all as systems of this dataset; None keeps their own.
    """
    for batch in batches(potential, systems, dataset=dataset):
        raw = potential(batch, properties)
        raw = {name: value.detach() for name, value in raw.items()}
        yield batch, potential.denormalize(raw, batch)


def batches(
    potential: Potential, systems: Sequence[AtomicData], *, dataset: str | None = None
) -> Iterator[AtomicData]:
    """Yield systems in batches with edges, in order.

    Args:
        potential: Decides about the edges.
        systems: Single systems without edges.
        dataset: As in :func:`predicted`.
    """
    waiting: list[AtomicData] = []
    for system in systems:
        if waiting and sum(one.num_atoms for one in waiting) + system.num_atoms > _ATOMS:
            yield collate(waiting)
            waiting = []
        named = system if dataset is None else replace(system, dataset=[dataset])
        waiting.append(named.with_edges(potential.cutoff, max_neighbors=potential.max_neighbors))
    if waiting:
        yield collate(waiting)
