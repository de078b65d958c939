"""Batches that other processes read, search for neighbors and join."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from adatom.core.errors import AdatomError
from adatom.data.atomic_data import AtomicData, collate
from adatom.graph.edges import Edges
from adatom.training.batching import Rows

#: Batches per process that wait for the training.
_PREFETCH = 4


class WorkerBatches:
    """Processes that make batches; they live as long as this object.

    Batches come as NumPy arrays through pipes: tensors would lie in ``/dev/shm``, which is 64 MB
    in many containers and ends a training with a bus error when it is full.

    Args:
        systems: Structures with edges; each process has its own copy.
        workers: Number of processes.
    """

    def __init__(self, systems: Sequence[AtomicData], workers: int) -> None:
        self._rows: list[Rows] = []
        self._loader: DataLoader[Any] = DataLoader(
            _Batches(systems),
            batch_size=None,
            sampler=_Sampler(self._rows),
            num_workers=workers,
            persistent_workers=True,
            prefetch_factor=_PREFETCH,
            collate_fn=_unchanged,
        )

    def batches(self, rows: Iterable[Rows]) -> Iterator[AtomicData]:
        """Yield one batch for each array of rows, in order.

        Raises:
            AdatomError: If a structure cannot be read; the message names it.
        """
        self._rows[:] = rows
        for packed in self._loader:
            if isinstance(packed, AdatomError):
                raise packed
            yield _unpack(packed)


class _Sampler(list[Rows]):
    """The batches of the present epoch; the list it looks at is changed between epochs."""

    def __init__(self, rows: list[Rows]) -> None:
        super().__init__()
        self._now = rows

    def __iter__(self) -> Iterator[Rows]:
        return iter(list(self._now))

    def __len__(self) -> int:
        return len(self._now)


class _Batches(Dataset[Any]):
    """From rows to a packed batch, in another process."""

    def __init__(self, systems: Sequence[AtomicData]) -> None:
        self._systems = systems

    def __getitem__(self, rows: Rows) -> dict[str, Any] | AdatomError:
        try:
            return _pack(collate([self._systems[int(row)] for row in rows]))
        except AdatomError as error:  # raised again where it can be caught
            return error


def _unchanged(packed: Any) -> Any:
    return packed


def _pack(batch: AtomicData) -> dict[str, Any]:
    packed: dict[str, Any] = {}
    for item in fields(AtomicData):
        value = getattr(batch, item.name)
        packed[item.name] = value.numpy() if isinstance(value, torch.Tensor) else value
    packed["labels"] = {name: value.numpy() for name, value in batch.labels.items()}
    if batch.edges is not None:
        # Half of the bytes; no batch has 2^31 atoms.
        edges = batch.edges
        packed["edges"] = tuple(
            value.numpy().astype(np.int32) for value in (edges.index, edges.offsets, edges.counts)
        )
    return packed


def _unpack(packed: dict[str, Any]) -> AtomicData:
    values: dict[str, Any] = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in packed.items()
    }
    values["labels"] = {k: torch.from_numpy(value) for k, value in packed["labels"].items()}
    if packed["edges"] is not None:
        values["edges"] = Edges(*(torch.from_numpy(x).long() for x in packed["edges"]))
    return AtomicData(**values)
