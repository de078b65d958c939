"""The choice of the fastest neighbor search."""

from __future__ import annotations

import torch

from adatom.graph.candidates import Candidates
from adatom.graph.cell_bins import fractional_ranges
from adatom.graph.periodic_systems import PeriodicSystems
from adatom.graph.torch_backend import torch_candidates
from adatom.graph.vesin_backend import vesin_candidates

#: vesin stores empty bins (as wide as the cutoff) too: 0.1 to 3 microseconds each. A search in
#: torch costs about a millisecond more than vesin's, and nothing for empty space.
_BINS_FOR_FREE = 2000
#: Empty bins per atom that are still cheaper than torch's time per atom.
_BINS_PER_ATOM = 50


def auto_candidates(systems: PeriodicSystems, cutoff: float) -> Candidates:
    """Search with vesin on the CPU, unless a system is nearly empty space, else with torch.

    Args:
        systems: The batch.
        cutoff: In angstrom.
    """
    if systems.pos.device.type == "cpu" and not _has_vacuum(systems, cutoff):
        return vesin_candidates(systems, cutoff)
    return torch_candidates(systems, cutoff)


def _has_vacuum(systems: PeriodicSystems, cutoff: float) -> bool:
    if systems.num_atoms == 0:
        return False
    low, high = torch.aminmax(systems.pos, dim=0)
    longest = max(float((high - low).amax()), float(systems.cell.abs().sum(2).amax()))
    if longest**3 < _BINS_FOR_FREE * cutoff**3:
        return False
    inverse = torch.linalg.inv(systems.cell)
    fractional = torch.bmm(systems.pos.unsqueeze(1), inverse[systems.batch]).squeeze(1)
    lengths = fractional_ranges(systems, fractional)[1] / torch.linalg.vector_norm(inverse, dim=1)
    bins = (lengths / cutoff).clamp(min=1.0).prod(1)
    return bool((bins > _BINS_FOR_FREE + _BINS_PER_ATOM * systems.natoms).any())
