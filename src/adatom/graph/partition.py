"""Which worker owns which atom of a system."""

from __future__ import annotations

import torch

from adatom.graph.periodic_systems import PeriodicSystems

#: Work on an atom in units of the work on an edge.
_ATOM_WORK = 5.0
#: Most bins along one direction in the estimate of the number of edges.
_MOST_BINS = 64


def index_partition(num_atoms: int, parts: int) -> torch.Tensor:
    """Give each worker as many consecutive atoms: the simple twin of the spatial partition.

    Args:
        num_atoms: N.
        parts: Number of workers.

    Returns:
        ``[N]`` int64, the worker of each atom.
    """
    return torch.arange(num_atoms) * parts // max(num_atoms, 1)


def spatial_partition(systems: PeriodicSystems, cutoff: float, parts: int) -> torch.Tensor:
    """Cut space so that all workers have about the same number of edges and short boundaries.

    Recursive bisection (Berger and Bokhari, IEEE Trans. Comput. C-36, 570, 1987): the longest
    direction of a group of atoms, measured perpendicular to the other two, is cut where both sides
    have their share of the edges.

    Args:
        systems: One system.
        cutoff: In angstrom.
        parts: Number of workers.

    Returns:
        ``[N]`` int64, the worker of each atom.
    """
    inverse = torch.linalg.inv(systems.cell[0])
    fractional = systems.pos @ inverse
    fractional = torch.where(systems.pbc[0], fractional - torch.floor(fractional), fractional)
    heights = 1.0 / torch.linalg.vector_norm(inverse, dim=0)
    place = fractional * heights
    work = _ATOM_WORK + _expected_edges(place, heights, systems.pbc[0], cutoff)
    owner = torch.zeros(systems.num_atoms, dtype=torch.int64, device=place.device)
    groups = [(torch.arange(systems.num_atoms, device=place.device), 0, parts)]
    while groups:
        atoms, first, count = groups.pop()
        if count == 1:
            owner[atoms] = first
            continue
        left = count // 2
        low, high = _bisected(atoms, place, work, left / count)
        groups += [(low, first, left), (high, first + left, count - left)]
    return owner


def _bisected(
    atoms: torch.Tensor, place: torch.Tensor, work: torch.Tensor, share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    if not len(atoms):
        return atoms, atoms
    own = place[atoms]
    axis = int(torch.argmax(own.amax(0) - own.amin(0)))
    order = torch.argsort(own[:, axis], stable=True)
    ends = torch.cumsum(work[atoms][order], 0)
    # An atom goes to the side that more than half of its work lies on.
    middles = ends - 0.5 * work[atoms][order]
    cut = int((middles < share * ends[-1]).sum())
    return atoms[order[:cut]], atoms[order[cut:]]


def _expected_edges(
    place: torch.Tensor, heights: torch.Tensor, pbc: torch.Tensor, cutoff: float
) -> torch.Tensor:
    """Estimate the edges into each atom from how many others are in the bins around it."""
    if not len(place):
        return place.new_zeros(0)
    low = torch.where(pbc, 0.0, place.amin(0))
    extent = torch.where(pbc, heights, (place.amax(0) - low).clamp(min=cutoff))
    bins = torch.floor(extent / cutoff).clamp(1, _MOST_BINS)
    index = torch.floor((place - low) / extent * bins).clamp(min=0.0)
    index = torch.minimum(index, bins - 1).long()
    nx, ny, nz = (int(n) for n in bins)
    number = (index[:, 0] * ny + index[:, 1]) * nz + index[:, 2]
    counts = torch.bincount(number, minlength=nx * ny * nz).view(nx, ny, nz)
    around = counts.to(place.dtype)
    for axis in range(3):
        around = _with_neighbors(around, axis, periodic=bool(pbc[axis]))
    volume = (extent / bins).prod() * 27
    share = 4.0 / 3.0 * torch.pi * cutoff**3 / volume
    return around.flatten()[number] * share.clamp(max=1.0)


def _with_neighbors(counts: torch.Tensor, axis: int, *, periodic: bool) -> torch.Tensor:
    """Add the bins before and after along an axis."""
    before, after = counts.roll(1, axis), counts.roll(-1, axis)
    if not periodic:
        before.select(axis, 0).zero_()
        after.select(axis, -1).zero_()
    return counts + before + after
