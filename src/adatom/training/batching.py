"""Which structures form which batch: a pure function of (seed, epoch), so that a run can resume.

Batches are packed anew in every epoch: with a limit on atoms or edges their composition changes,
not only their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from adatom.core.errors import ConfigError, DataError
from adatom.data.atomic_data import AtomicData, collate


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How large a batch may be; every limit that is given holds.

    Attributes:
        systems: Structures.
        atoms: Sum of atoms.
        edges: Sum of directed edges.
    """

    systems: int | None = None
    atoms: int | None = None
    edges: int | None = None

    def __post_init__(self) -> None:
        """Refuse limits that allow nothing, or no limit at all."""
        given = {"batch_size": self.systems, "max_atoms": self.atoms, "max_edges": self.edges}
        if all(value is None for value in given.values()):
            raise ConfigError("Batches have no size", expected="batch_size, max_atoms or max_edges")
        for name, value in given.items():
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}", expected="at least 1")


class BatchPlan:
    """Packs structures into batches.

    Args:
        systems: With edges.
        limits: What a batch may hold.
        seed: Together with the epoch it decides the order; None keeps the order of the data.
        allow_oversize: Give a structure that alone is over a limit a batch of its own.

    Raises:
        DataError: If one structure alone is over a limit; the message names it.
    """

    def __init__(
        self,
        systems: Sequence[AtomicData],
        limits: BatchLimits,
        seed: int | None,
        *,
        allow_oversize: bool = False,
    ) -> None:
        self._seed = seed
        self._allow_oversize = allow_oversize
        self._count = len(systems)
        self._limits: list[tuple[int, np.ndarray]] = []
        if limits.systems is not None:
            self._add("batch_size", limits.systems, np.ones(len(systems), dtype=np.int64), systems)
        if limits.atoms is not None:
            atoms = np.array([s.num_atoms for s in systems], dtype=np.int64)
            self._add("max_atoms", limits.atoms, atoms, systems)
        if limits.edges is not None:
            edges = [s.edges.num_edges if s.edges else 0 for s in systems]
            self._add("max_edges", limits.edges, np.array(edges, dtype=np.int64), systems)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return the batches of one epoch as indices; every structure is in exactly one."""
        order = np.arange(self._count)
        if self._seed is not None:
            order = np.random.default_rng([self._seed, epoch]).permutation(order)
        sums = [np.concatenate([[0], np.cumsum(size[order])]) for _, size in self._limits]
        found, start = [], 0
        while start < self._count:
            # The last position whose running sum still fits, for each limit.
            ends = [
                int(np.searchsorted(total, total[start] + limit, side="right")) - 1
                for (limit, _), total in zip(self._limits, sums, strict=True)
            ]
            end = max(min(ends), start + 1)
            found.append(order[start:end])
            start = end
        return found

    def _add(self, name: str, limit: int, size: np.ndarray, systems: Sequence[AtomicData]) -> None:
        worst = int(size.argmax()) if len(size) else 0
        if len(size) and size[worst] > limit and not self._allow_oversize:
            unit = name.removeprefix("max_")
            raise DataError(
                f"Structure {systems[worst].sid[0]!r} has {size[worst]} {unit}, "
                f"more than {name} = {limit} allows in a whole batch",
                fix=f"Set {name} to at least {size[worst]}.",
            )
        self._limits.append((limit, size))


class BatchLoader:
    """Yields the batches of the epoch that the trainer is in, from the step it is at.

    It has no length on purpose: the number of batches changes from epoch to epoch.

    Args:
        systems: Structures with edges, in memory.
        plan: Which of them form which batch.
        position: Returns (epoch, batches of it that are done); asked when an iteration begins.
    """

    def __init__(
        self,
        systems: Sequence[AtomicData],
        plan: BatchPlan,
        position: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        self._systems = systems
        self._plan = plan
        self._position = position

    def __iter__(self) -> Iterator[AtomicData]:
        """Yield batches of :class:`AtomicData` with edges."""
        epoch, done = self._position()
        for rows in self._plan.batches(epoch)[done:]:
            yield collate([self._systems[row] for row in rows])
