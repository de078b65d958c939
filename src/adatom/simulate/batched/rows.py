"""Numbers of the systems that advance together: some per row, some per system.

A row is an atom, or one of the three lattice vectors of a cell that relaxes; the rows of a system
are next to each other. Systems leave and enter, and everything that belongs to them goes along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from adatom.core.errors import AdatomError
from adatom.data.atomic_data import AtomicData
from adatom.nn.segments import segment_sum


@dataclass(slots=True)
class Rows:
    """R rows of B systems.

    Attributes:
        sizes: ``[B]`` int64; rows of each system.
        by_row: Tensors ``[R, ...]`` by name.
        by_system: Tensors ``[B, ...]`` by name.
    """

    sizes: torch.Tensor
    by_row: dict[str, torch.Tensor] = field(default_factory=dict)
    by_system: dict[str, torch.Tensor] = field(default_factory=dict)

    def taken(self, order: torch.Tensor) -> Rows:
        """Return the numbers of some systems.

        Args:
            order: ``[B']`` int64; which systems, in which order.
        """
        rows = rows_of(self.sizes, order)
        return Rows(
            self.sizes[order],
            {name: value[rows] for name, value in self.by_row.items()},
            {name: value[order] for name, value in self.by_system.items()},
        )

    def joined(self, others: Rows) -> Rows:
        """Return the numbers of these systems and of ``others`` after them."""
        return Rows(
            torch.cat([self.sizes, others.sizes]),
            {name: torch.cat([v, others.by_row[name]]) for name, v in self.by_row.items()},
            {name: torch.cat([v, others.by_system[name]]) for name, v in self.by_system.items()},
        )


def owners(sizes: torch.Tensor) -> torch.Tensor:
    """Return the system of each row ``[R]`` for systems of ``sizes [B]`` rows."""
    return torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)


def rows_of(sizes: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Return the rows of some systems, in order.

    Args:
        sizes: ``[B]`` rows of each system.
        order: ``[B']`` which systems.
    """
    starts = torch.cumsum(sizes, 0) - sizes
    chosen = sizes[order]
    shift = starts[order] - (torch.cumsum(chosen, 0) - chosen)
    shifts = torch.repeat_interleave(shift, chosen)
    return shifts + torch.arange(len(shifts), device=sizes.device)


def dot(a: torch.Tensor, b: torch.Tensor, owner: torch.Tensor, count: int) -> torch.Tensor:
    """Return ``[B]`` the scalar product of two ``[R, 3]`` vectors within each system."""
    return segment_sum((a * b).sum(1), owner, count)


def longest(vectors: torch.Tensor, owner: torch.Tensor, count: int) -> torch.Tensor:
    """Return ``[B]`` the length of the longest of a system's ``[R, 3]`` vectors; NaN stays NaN."""
    lengths = torch.linalg.vector_norm(vectors, dim=1)
    zeros: torch.Tensor = lengths.new_zeros(count)
    return zeros.scatter_reduce(0, owner, lengths, "amax")


def take_systems(data: AtomicData, order: Sequence[int]) -> AtomicData:
    """Return some systems of a batch, in order, without edges and labels.

    Args:
        data: A batch.
        order: Which systems.
    """
    chosen = torch.tensor(list(order), dtype=torch.int64, device=data.pos.device)
    rows = rows_of(data.natoms, chosen)
    sizes = data.natoms[chosen]
    return AtomicData(
        pos=data.pos[rows],
        atomic_numbers=data.atomic_numbers[rows],
        cell=data.cell[chosen],
        pbc=data.pbc[chosen],
        natoms=sizes,
        batch=owners(sizes),
        charge=data.charge[chosen],
        spin=data.spin[chosen],
        dataset=[data.dataset[i] for i in order],
        tags=data.tags[rows],
        fixed=data.fixed[rows],
        sid=[data.sid[i] for i in order],
    )


#: What one structure's computation may raise without it being anybody else's problem.
STRUCTURE_ERRORS = (AdatomError, torch.linalg.LinAlgError)  # type: ignore[attr-defined]
