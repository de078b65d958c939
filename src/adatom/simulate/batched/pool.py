"""The systems that are computed together now; some leave, others enter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from adatom.data.atomic_data import AtomicData, collate
from adatom.inference.batch_runner import BatchRunner
from adatom.simulate.batched.intake import Entry, Intake, Refused
from adatom.simulate.batched.rows import take_systems


class Pool:
    """A batch whose systems come from an intake as memory allows.

    Systems of one composition are kept next to each other, so that they share merged weights.

    Args:
        intake: Where new systems come from.
        runner: Knows what fits.
        names: Properties that are computed at every step.
        limit: Systems at most.

    Attributes:
        systems: The batch, or None while there is none.
        entries: What each system came from.
        edges: Of each system, when they were last counted.
    """

    def __init__(
        self, intake: Intake, runner: BatchRunner, names: Sequence[str], limit: int
    ) -> None:
        self._intake = intake
        self._fits = runner.fits(names)
        self._limit = limit
        self.systems: AtomicData | None = None
        self.entries: list[Entry] = []
        self.edges: list[int] = []

    def __len__(self) -> int:
        """Return the number of systems."""
        return len(self.entries)

    @property
    def batch(self) -> AtomicData:
        """The batch, where there is one."""
        if self.systems is None:
            raise RuntimeError("The pool is empty")
        return self.systems

    def newcomers(self) -> Iterator[Entry | Refused]:
        """Yield the structures that come next: those that fit, and those that are refused."""
        edges, kinds = sum(self.edges), {entry.key for entry in self.entries}
        atoms = sum(entry.system.num_atoms for entry in self.entries)
        count = len(self)
        while (found := self._intake.peek()) is not None:
            if isinstance(found, Entry):
                edges, atoms = edges + found.edges, atoms + found.system.num_atoms
                kinds.add(found.key)
                count += 1
                if count > 1 and not (
                    count <= self._limit and self._fits(edges, atoms, len(kinds))
                ):
                    return
            self._intake.take()
            yield found

    def keep(self, stay: Sequence[int]) -> torch.Tensor:
        """Drop all systems but some, and return their places before ``[B']``."""
        batch = self.batch
        self.entries = [self.entries[i] for i in stay]
        self.edges = [self.edges[i] for i in stay]
        self.systems = take_systems(batch, stay) if stay else None
        return torch.tensor(list(stay), dtype=torch.int64, device=batch.pos.device)

    def add(self, entries: Sequence[Entry]) -> torch.Tensor:
        """Add systems and put those of one composition next to each other.

        Args:
            entries: At least one.

        Returns:
            ``[B]`` places before, where those of new systems follow the old ones.
        """
        old = [] if self.systems is None else [self.systems]
        joined = collate([*old, *(entry.system for entry in entries)])
        everyone = [*self.entries, *entries]
        edges = [*self.edges, *(entry.edges for entry in entries)]
        order = sorted(range(len(everyone)), key=lambda i: everyone[i].key)
        self.entries = [everyone[i] for i in order]
        self.edges = [edges[i] for i in order]
        self.systems = take_systems(joined, order)
        return torch.tensor(order, dtype=torch.int64, device=joined.pos.device)

    def move(self, pos: torch.Tensor, cell: torch.Tensor | None = None) -> None:
        """Put the atoms elsewhere, and the cells if given."""
        batch = self.batch
        self.systems = replace(batch, pos=pos, cell=batch.cell if cell is None else cell)
