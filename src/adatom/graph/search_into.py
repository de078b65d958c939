"""Neighbor search for some atoms of a system only, in memory that grows with their number."""

from __future__ import annotations

from collections.abc import Callable

import torch

from adatom.graph.candidates import SEARCH_MARGIN, Candidates
from adatom.graph.periodic_systems import PeriodicSystems

#: Added to the reach in fractional coordinates, far more than their rounding.
_ROUNDING = 1e-9

Search = Callable[[PeriodicSystems, float], Candidates]


def candidates_into(
    systems: PeriodicSystems, targets: torch.Tensor, cutoff: float, search: Search
) -> Candidates:
    """Find all pairs whose target is among the given atoms.

    The atoms and periodic images near the box that the targets fill, in fractional coordinates, are
    searched as a cluster. Which of the pairs are edges is decided afterwards, with the positions of
    the system, as for any other search.

    Args:
        systems: One system.
        targets: ``[T]`` int64, distinct atoms.
        cutoff: In angstrom.
        search: A backend.

    Returns:
        The pairs, numbered in the system.
    """
    if not len(targets):
        empty = targets.new_zeros(0)
        return Candidates(empty, empty, targets.new_zeros(0, 3))
    if len(targets) == systems.num_atoms:
        return search(systems, cutoff)
    atoms, images, wraps, pos = _images_near(systems, targets, cutoff + SEARCH_MARGIN)
    wanted = torch.zeros(systems.num_atoms, dtype=torch.bool, device=pos.device)
    wanted[targets] = True
    is_target = wanted[atoms] & (images == 0).all(1)
    pairs = search(_cluster(systems, pos), cutoff)
    kept = is_target[pairs.target].nonzero().squeeze(1)
    source, target = pairs.source[kept], pairs.target[kept]
    first, second = atoms[source], atoms[target]
    return Candidates(first, second, images[source] - wraps[first] + wraps[second])


def _images_near(
    systems: PeriodicSystems, targets: torch.Tensor, radius: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """List the atoms and images in the targets' box and around it.

    Returns:
        The atom ``[M]`` and its image ``[M, 3]``, the number of cells ``[N, 3]`` by which each atom
        of the system was moved into the cell before that, and the positions ``[M, 3]``.
    """
    cell, pbc = systems.cell[0], systems.pbc[0]
    inverse = torch.linalg.inv(cell)
    fractional = systems.pos @ inverse
    wraps = torch.where(pbc, torch.floor(fractional), 0.0)
    fractional = fractional - wraps
    reach = radius * torch.linalg.vector_norm(inverse, dim=0) + _ROUNDING
    own = fractional[targets]
    low, high = own.amin(0) - reach, own.amax(0) + reach
    first = torch.where(pbc, torch.ceil(low - fractional), 0.0)
    last = torch.where(pbc, torch.floor(high - fractional), 0.0)
    within = (pbc | ((fractional >= low) & (fractional <= high))).all(1)
    widths = (last - first + 1).clamp(min=0.0).long() * within.unsqueeze(1)
    counts = widths.prod(1)
    atoms = torch.repeat_interleave(counts)
    step = torch.arange(len(atoms), device=atoms.device)
    step = step - (torch.cumsum(counts, 0) - counts)[atoms]
    _, ny, nz = widths[atoms].unbind(1)
    along = torch.stack([step // (ny * nz), step // nz % ny, step % nz], dim=1)
    images = first.long()[atoms] + along
    shift = (images.to(cell.dtype) - wraps[atoms]) @ cell
    return atoms, images, wraps.long(), systems.pos[atoms] + shift


def _cluster(systems: PeriodicSystems, pos: torch.Tensor) -> PeriodicSystems:
    """Return atoms without periodicity as a system of their own."""
    return PeriodicSystems(
        pos,
        torch.eye(3, dtype=pos.dtype, device=pos.device).unsqueeze(0),
        torch.zeros_like(systems.pbc),
        torch.full_like(systems.natoms, len(pos)),
        torch.zeros(len(pos), dtype=torch.int64, device=pos.device),
    )
