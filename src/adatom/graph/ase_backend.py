"""Neighbor search with ASE: slow, independent, the oracle of the tests."""

from __future__ import annotations

import numpy as np
import torch
from ase.neighborlist import primitive_neighbor_list

from adatom.graph.candidates import SEARCH_MARGIN, Candidates
from adatom.graph.periodic_systems import PeriodicSystems


def ase_candidates(systems: PeriodicSystems, cutoff: float) -> Candidates:
    """Search one system after the other; ``cutoff`` in angstrom."""
    pos, cell, pbc = (x.cpu().numpy() for x in (systems.pos, systems.cell, systems.pbc))
    parts = []
    start = 0
    for b, count in enumerate(systems.natoms.tolist()):
        if count == 0:
            continue
        target, source, shifts = primitive_neighbor_list(
            "ijS", pbc[b], cell[b], pos[start : start + count], cutoff + SEARCH_MARGIN
        )
        parts.append(np.column_stack([source + start, target + start, shifts]).astype(np.int64))
        start += count
    table = np.concatenate(parts) if parts else np.zeros((0, 5), dtype=np.int64)
    columns = torch.from_numpy(table).to(systems.pos.device)
    return Candidates(source=columns[:, 0], target=columns[:, 1], offsets=columns[:, 2:])
