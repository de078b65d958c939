"""Atoms of a batch sorted into bins, along each system's own lattice directions."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from adatom.graph.periodic_systems import PeriodicSystems

#: Bins are at least this fraction of the search radius wide.
_WIDTH = 0.5
#: Most bins along one direction; beyond this (huge vacuum) bins become wider.
_MOST_BINS = 2**16


@dataclass(slots=True, frozen=True)
class CellBins:
    """Which atom lies in which bin; O occupied bins, N atoms, B systems.

    Only occupied bins are stored, so empty space costs nothing. Periodic systems are divided
    from 0 to 1 in fractional coordinates, others from their first to their last atom.

    Attributes:
        wraps: ``[N, 3]`` int64; subtracting ``wraps @ cell`` puts an atom into the cell.
        wrapped: ``[N, 3]`` float64; positions in the cell, angstrom.
        order: ``[N]`` int64; atoms sorted by bin.
        ids: ``[O]`` int64, increasing; numbers of the occupied bins.
        starts: ``[O]`` int64; where the atoms of a bin begin in ``order``.
        counts: ``[O]`` int64; atoms per bin.
        system: ``[O]`` int64; the system of a bin.
        place: ``[O, 3]`` int64; the bin's place along each direction.
        bases: ``[B]`` int64; the number of each system's first bin.
        divisions: ``[B, 3]`` int64; bins along each direction.
        reach: ``[B, 3]`` int64; how many bins away a neighbor can be.
    """

    wraps: torch.Tensor
    wrapped: torch.Tensor
    order: torch.Tensor
    ids: torch.Tensor
    starts: torch.Tensor
    counts: torch.Tensor
    system: torch.Tensor
    place: torch.Tensor
    bases: torch.Tensor
    divisions: torch.Tensor
    reach: torch.Tensor


def bin_atoms(systems: PeriodicSystems, radius: float) -> CellBins:
    """Sort the atoms into bins for a search within ``radius`` (angstrom)."""
    inverse = torch.linalg.inv(systems.cell)
    fractional = torch.bmm(systems.pos.unsqueeze(1), inverse[systems.batch]).squeeze(1)
    periodic = systems.pbc[systems.batch]
    wraps = torch.where(periodic, torch.floor(fractional), 0.0)
    fractional = fractional - wraps
    shift = torch.bmm(wraps.unsqueeze(1), systems.cell[systems.batch]).squeeze(1)

    low, extent = fractional_ranges(systems, fractional)
    # Distance between the two faces that bound the divided region along each direction.
    length = extent / torch.linalg.vector_norm(inverse, dim=1)
    divisions = torch.floor(length / (_WIDTH * radius)).clamp(1, _MOST_BINS)
    reach = torch.ceil(radius * divisions / length)
    reach = torch.where(systems.pbc, reach, torch.minimum(reach, divisions - 1))
    place = (fractional - low[systems.batch]) / extent[systems.batch] * divisions[systems.batch]
    place = torch.minimum(torch.floor(place).clamp(min=0.0), divisions[systems.batch] - 1)

    place, divisions, reach = place.long(), divisions.long(), reach.long()
    sizes = divisions.prod(1)
    bases = torch.cumsum(sizes, 0) - sizes
    ids = bases[systems.batch] + linear_index(place, divisions[systems.batch])
    ids, order = torch.sort(ids, stable=True)
    ids, counts = torch.unique_consecutive(ids, return_counts=True)
    starts = torch.cumsum(counts, 0) - counts
    first = order[starts]
    return CellBins(
        wraps=wraps.long(),
        wrapped=systems.pos - shift,
        order=order,
        ids=ids,
        starts=starts,
        counts=counts,
        system=systems.batch[first],
        place=place[first],
        bases=bases,
        divisions=divisions,
        reach=reach,
    )


def linear_index(place: torch.Tensor, divisions: torch.Tensor) -> torch.Tensor:
    """Return the number of ``place [..., 3]`` in a grid of ``divisions [..., 3]``."""
    x, y, z = place.unbind(-1)
    return (x * divisions[..., 1] + y) * divisions[..., 2] + z


def fractional_ranges(
    systems: PeriodicSystems, fractional: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return start and extent of the region that is divided into bins.

    Args:
        systems: The batch.
        fractional: ``[N, 3]`` fractional coordinates.

    Returns:
        ``[B, 3]`` each: 0 and 1 along periodic directions, and the range of the atoms along others
        (1 where that is nothing).
    """
    rows = systems.batch.unsqueeze(1).expand(-1, 3)
    start = torch.zeros_like(systems.cell[:, 0])
    low = start.scatter_reduce(0, rows, fractional, "amin", include_self=False)
    high = start.scatter_reduce(0, rows, fractional, "amax", include_self=False)
    extent = high - low
    flat = systems.pbc | (extent <= 0)
    return torch.where(systems.pbc, 0.0, low), torch.where(flat, 1.0, extent)
