"""Structures that are read from their files each time they are asked for."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import overload

import numpy as np

from adatom.data.atomic_data import AtomicData
from adatom.data.structure_dataset import StructureDataset
from adatom.training.columns import Ints

#: Estimated bytes of an atom with its edges: about 50 of 40 bytes each, and its numbers.
_BYTES_PER_ATOM = 2100
#: Structures that are looked at for the estimate.
_SAMPLE = 64
#: Part of the machine's memory that structures may take.
_SHARE = 0.4


class LazySystems(Sequence[AtomicData]):
    """Structures of several sources, or some of them, with edges if a cutoff is given.

    Args:
        sources: Datasets, one after the other.
        rows: Which structures of all sources; None means all.
        cutoff: In angstrom; None gives structures without edges.
        max_neighbors: See :func:`adatom.graph.neighbors.neighbor_list`.
    """

    def __init__(
        self,
        sources: Sequence[StructureDataset],
        rows: Ints | None = None,
        *,
        cutoff: float | None = None,
        max_neighbors: int | None = None,
    ) -> None:
        self.sources = tuple(sources)
        self._ends = list(accumulate(len(source) for source in sources))
        self.rows: Ints = np.arange(self._ends[-1]) if rows is None else rows
        self._cutoff, self._max_neighbors = cutoff, max_neighbors

    def __len__(self) -> int:
        """Return the number of structures."""
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> AtomicData: ...
    @overload
    def __getitem__(self, index: slice) -> list[AtomicData]: ...
    def __getitem__(self, index: int | slice) -> AtomicData | list[AtomicData]:
        """Read one structure, or a list of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = int(self.rows[index])
        number = bisect_right(self._ends, row)
        source = self.sources[number]
        system = source[row - self._ends[number] + len(source)]
        if self._cutoff is None:
            return system
        return system.with_edges(self._cutoff, max_neighbors=self._max_neighbors)

    def take(self, rows: Ints) -> LazySystems:
        """Return some of these structures."""
        return LazySystems(
            self.sources, self.rows[rows], cutoff=self._cutoff, max_neighbors=self._max_neighbors
        )

    def with_edges(self, cutoff: float, max_neighbors: int | None) -> LazySystems:
        """Return the same structures with edges, which are found whenever one is read."""
        return LazySystems(self.sources, self.rows, cutoff=cutoff, max_neighbors=max_neighbors)


def too_large(sources: Sequence[StructureDataset]) -> bool:
    """Tell if structures with their edges would take too much of the machine's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return sum(map(_estimated_bytes, sources)) > _SHARE * memory


def _estimated_bytes(source: StructureDataset) -> float:
    rows = np.linspace(0, len(source) - 1, min(_SAMPLE, len(source))).astype(int)
    atoms = np.mean([source[int(row)].num_atoms for row in rows])
    return float(atoms) * len(source) * _BYTES_PER_ATOM
