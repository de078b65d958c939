"""Batches as graphs of another library, for networks and loops that are not adatom's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from adatom.core.console import progress
from adatom.data.atomic_data import AtomicData
from adatom.data.frameworks.dgl import to_dgl
from adatom.data.frameworks.pyg import to_pyg
from adatom.training.batch_loader import BatchLoader
from adatom.training.lazy_systems import LazySystems

Framework = Literal["native", "pyg", "dgl"]

_CONVERSIONS: Mapping[Framework, Callable[[AtomicData], Any]] = MappingProxyType(
    {"native": lambda batch: batch, "pyg": to_pyg, "dgl": to_dgl}
)


class GraphLoader:
    """Yields the batches of a loader as graphs; like it, it has no length.

    Args:
        batches: Of one process.
        framework: ``pyg`` gives ``torch_geometric.data.Batch``, ``dgl`` a batched
            ``dgl.DGLGraph``, ``native`` :class:`AtomicData`.
    """

    def __init__(self, batches: BatchLoader, framework: Framework) -> None:
        self._batches = batches
        self._convert = _CONVERSIONS[framework]

    def set_sampler_state(self, epoch: int, step: int) -> None:
        """Let the next iteration begin at batch ``step`` of ``epoch``."""
        self._batches.set_sampler_state(epoch, step)

    def __iter__(self) -> Iterator[Any]:
        """Yield graphs.

        Raises:
            MissingExtraError: If the framework is not installed.
        """
        for batch in self._batches:
            yield self._convert(batch)


def with_edges(
    systems: Sequence[AtomicData], cutoff: float, max_neighbors: int | None, title: str
) -> list[AtomicData] | LazySystems:
    """Return the structures with edges, found now or, where they are not in memory, when read.

    Args:
        systems: Single systems.
        cutoff: In angstrom.
        max_neighbors: See :func:`adatom.graph.neighbors.neighbor_list`.
        title: Of the progress bar.
    """
    if isinstance(systems, LazySystems):
        return systems.with_edges(cutoff, max_neighbors)
    found = []
    with progress(title, len(systems)) as bar:
        for system in systems:
            found.append(system.with_edges(cutoff, max_neighbors=max_neighbors))
            bar.advance()
    return found
