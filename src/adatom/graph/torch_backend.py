"""Neighbor search in plain torch: any device, all systems of a batch at once."""

from __future__ import annotations

import torch

from adatom.graph.candidates import SEARCH_MARGIN, Candidates
from adatom.graph.cell_bins import CellBins, bin_atoms, linear_index
from adatom.graph.periodic_systems import PeriodicSystems

#: Pairs of bins looked at in one go: about a million pairs of atoms and 0.2 GB in a dense metal.
_BIN_PAIRS_AT_ONCE = 2**18


def torch_candidates(systems: PeriodicSystems, cutoff: float) -> Candidates:
    """Compare each bin with the bins around it, through as many images as the cutoff reaches.

    Args:
        systems: The batch.
        cutoff: In angstrom.
    """
    if systems.num_atoms == 0:
        empty = torch.zeros(0, dtype=torch.int64, device=systems.pos.device)
        return Candidates(empty, empty, empty.new_zeros(0, 3))
    radius = cutoff + SEARCH_MARGIN
    bins = bin_atoms(systems, radius)
    stencils = (2 * bins.reach + 1).prod(1)[bins.system]
    parts = []
    start = 0
    for size in _chunks(stencils):
        some = torch.arange(start, start + size, device=systems.pos.device)
        parts.append(_search_bins(systems, bins, radius, some, stencils[some]))
        start += size
    return Candidates(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _chunks(stencils: torch.Tensor) -> list[int]:
    """Cut the list of bins into runs whose stencils stay within the memory bound."""
    numbers = torch.cumsum(stencils, 0) // _BIN_PAIRS_AT_ONCE
    sizes: list[int] = torch.unique_consecutive(numbers, return_counts=True)[1].tolist()
    return sizes


def _search_bins(
    systems: PeriodicSystems,
    bins: CellBins,
    radius: float,
    some: torch.Tensor,
    stencils: torch.Tensor,
) -> Candidates:
    """Find the pairs whose target lies in one of the bins ``some``."""
    home, other, images = _bin_pairs(systems, bins, some, stencils)
    # All atoms of the one bin with all atoms of the other.
    num_pairs = bins.counts[home] * bins.counts[other]
    ends = torch.cumsum(num_pairs, 0)
    pair = torch.repeat_interleave(num_pairs)
    rank = torch.arange(len(pair), device=pair.device) - (ends - num_pairs)[pair]
    width = bins.counts[other][pair]
    target = bins.order[bins.starts[home][pair] + rank // width]
    source = bins.order[bins.starts[other][pair] + rank % width]

    cell = systems.cell[bins.system[home]]
    shift = torch.bmm(images.to(cell.dtype).unsqueeze(1), cell).squeeze(1)
    vector = bins.wrapped[source] - bins.wrapped[target] + shift[pair]
    x, y, z = (vector * vector).unbind(1)
    near = torch.nonzero(x + y + z <= radius * radius).flatten()
    source, target = source[near], target[near]
    offsets = images[pair[near]] - bins.wraps[source] + bins.wraps[target]
    return Candidates(source, target, offsets)


def _bin_pairs(
    systems: PeriodicSystems, bins: CellBins, some: torch.Tensor, stencils: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """List the occupied bins around each bin of ``some``.

    Returns:
        The bins of the targets, the bins of the sources (both as rows of ``bins``), and the image
        ``[P, 3]`` through which the source's bin is seen.
    """
    home = torch.repeat_interleave(some, stencils)
    first = torch.repeat_interleave(torch.cumsum(stencils, 0) - stencils, stencils)
    step = torch.arange(len(home), device=home.device) - first
    system = bins.system[home]
    divisions, reach = bins.divisions[system], bins.reach[system]
    widths = 2 * reach + 1
    along = torch.stack(
        [
            step // (widths[:, 1] * widths[:, 2]),
            step // widths[:, 2] % widths[:, 1],
            step % widths[:, 2],
        ],
        dim=1,
    )
    place = bins.place[home] + along - reach
    images = torch.div(place, divisions, rounding_mode="floor")
    reachable = (systems.pbc[system] | (images == 0)).all(1)
    ids = bins.bases[system] + linear_index(place - images * divisions, divisions)
    other = torch.searchsorted(bins.ids, ids).clamp(max=len(bins.ids) - 1)
    found = torch.nonzero(reachable & (bins.ids[other] == ids)).flatten()
    return home[found], other[found], images[found]
