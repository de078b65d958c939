"""Which structures form which batch: a pure function of (seed, epoch), so that a run can resume.

Batches are packed anew in every epoch: with a limit on atoms or edges their composition changes,
not only their order. One step of several processes is packed as a whole and then shared out, so
that it has the structures that one process with larger batches would have had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from adatom.core.errors import ConfigError, DataError
from adatom.data.atomic_data import AtomicData
from adatom.training.sharing import share_out

Rows = npt.NDArray[np.int64]

#: What the processes of a step may get alike.
Balance = Literal["systems", "atoms", "edges"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How large a batch of one process may be; every limit that is given holds.

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


@dataclass(frozen=True, slots=True)
class StructureSizes:
    """How large each structure is; all that packing has to know.

    Attributes:
        atoms: ``[S]`` int64.
        edges: ``[S]`` int64 directed edges, or None if they are not known.
        name: From row to the identifier for messages.
    """

    atoms: Rows
    edges: Rows | None
    name: Callable[[int], str]

    @classmethod
    def of(cls, systems: Sequence[AtomicData]) -> StructureSizes:
        """Count atoms and edges of structures in memory; without edges, 0 are counted."""
        return cls(
            np.array([s.num_atoms for s in systems], dtype=np.int64),
            np.array([s.edges.num_edges if s.edges else 0 for s in systems], dtype=np.int64),
            lambda row: systems[row].sid[0],
        )


class EpochOrder(Protocol):
    """Which structures an epoch has, in which order."""

    def rows(self, epoch: int) -> Rows:
        """Return rows; some may be missing and others repeated."""
        ...


class BatchPlan:
    """Packs structures into batches.

    Args:
        sizes: Of every structure.
        limits: What a batch of one process may hold. A step of W processes holds up to W times as
            much and is shared out as evenly as whole structures allow: each gets at most its
            number of structures, and about its number of atoms and edges.
        seed: Together with the epoch it decides the order; None keeps the order of the data.
        allow_oversize: Give a structure that alone is over a limit a batch of its own.
        order: Replaces the shuffled order, for mixtures that leave out or repeat structures.
        balance: What the processes of a step get alike; None takes edges where they are counted,
            else atoms.
        planned_world: Number of processes whose steps are kept, whatever number there is now;
            None keeps none.

    Raises:
        DataError: If one structure alone is over a limit; the message names it.
    """

    def __init__(
        self,
        sizes: StructureSizes,
        limits: BatchLimits,
        seed: int | None,
        *,
        allow_oversize: bool = False,
        order: EpochOrder | None = None,
        balance: Balance | None = None,
        planned_world: int | None = None,
    ) -> None:
        self._planned_world = planned_world
        self._order = order or _Shuffled(len(sizes.atoms), seed)
        self._limits: list[tuple[int, Rows]] = []
        self._most = limits.systems
        self._load = sizes.atoms if sizes.edges is None else sizes.edges
        ones = np.ones_like(sizes.atoms)
        shared = {"systems": ones, "atoms": sizes.atoms, "edges": sizes.edges}
        self._shared = (
            self._load if balance is None else _counted(shared[balance], f"balance: {balance}")
        )
        sized = {
            "batch_size": (limits.systems, ones),
            "max_atoms": (limits.atoms, sizes.atoms),
            "max_edges": (limits.edges, sizes.edges),
        }
        for name, (limit, size) in sized.items():
            if limit is None:
                continue
            counted = _counted(size, name)
            if not allow_oversize:
                _refuse_oversize(name, limit, counted, sizes.name)
            self._limits.append((limit, counted))

    def batches(self, epoch: int, rank: int = 0, world: int = 1) -> list[Rows]:
        """Return the batches of one process in one epoch.

        Every process gets the same number of batches. Together they hold each row of the epoch
        once, and step t of all processes is batch t of one process whose limits are ``world``
        times as large. If the steps were planned for more processes than there are now, each
        process gets several batches of a step, one after the other.

        Args:
            epoch: From 0.
            rank: Number of the process.
            world: Number of processes.

        Returns:
            Rows of each batch. A batch is empty if a step has fewer structures than processes.
        """
        planned = self._planned_world or world
        found = []
        for rows in self._steps(epoch, planned):
            shares = self._shares(rows, max(planned, world))
            mine = range(rank, rank + world * self.turns(world), world)
            found += [shares[i] if i < len(shares) else rows[:0] for i in mine]
        return found

    def turns(self, world: int) -> int:
        """Return how many batches each of ``world`` processes has in a step."""
        return -(-(self._planned_world or world) // world)

    def count(self, epoch: int, world: int = 1) -> int:
        """Return the number of batches of every process in one epoch."""
        steps = sum(1 for _ in self._steps(epoch, self._planned_world or world))
        return steps * self.turns(world)

    def loads(self, epoch: int, rank: int = 0, world: int = 1) -> Rows:
        """Return the edges (atoms, where edges were not counted) of each batch of one process."""
        batches = self.batches(epoch, rank, world)
        return np.array([self._load[rows].sum() for rows in batches], dtype=np.int64)

    def _steps(self, epoch: int, world: int) -> Iterator[Rows]:
        order = self._order.rows(epoch)
        sums = [np.concatenate([[0], np.cumsum(size[order])]) for _, size in self._limits]
        start = 0
        while start < len(order):
            # The last position whose running sum still fits, for each limit.
            ends = [
                int(np.searchsorted(total, total[start] + world * limit, side="right")) - 1
                for (limit, _), total in zip(self._limits, sums, strict=True)
            ]
            end = max(min(ends), start + 1)
            yield order[start:end]
            start = end

    def _shares(self, rows: Rows, world: int) -> list[Rows]:
        if world == 1:
            return [rows]
        most = None if self._most is None else -(-len(rows) // world)
        return [rows[part] for part in share_out(self._shared[rows], world, most=most)]


@dataclass(frozen=True, slots=True)
class _Shuffled:
    """Every structure once."""

    count: int
    seed: int | None

    def rows(self, epoch: int) -> Rows:
        order = np.arange(self.count)
        if self.seed is None:
            return order
        return np.random.default_rng([self.seed, epoch]).permutation(order)


def _counted(size: Rows | None, name: str) -> Rows:
    if size is None:
        raise ConfigError(f"{name} is set, but the edges have not been counted")
    return size


def _refuse_oversize(name: str, limit: int, size: Rows, sid: Callable[[int], str]) -> None:
    worst = int(size.argmax()) if len(size) else 0
    if len(size) and size[worst] > limit:
        raise DataError(
            f"Structure {sid(worst)!r} has {size[worst]} {name.removeprefix('max_')}, "
            f"more than {name} = {limit} allows in a whole batch",
            fix=f"Set {name} to at least {size[worst]}.",
        )
