"""Neighbor search on the CPU with vesin's cell lists."""

from __future__ import annotations

import numpy as np
import torch
from vesin import NeighborList

from adatom.core.errors import GraphError
from adatom.graph.candidates import SEARCH_MARGIN, Candidates
from adatom.graph.periodic_systems import PeriodicSystems


def vesin_candidates(systems: PeriodicSystems, cutoff: float) -> Candidates:
    """Search one system after the other.

    Args:
        systems: The batch; copied to the CPU if it is elsewhere.
        cutoff: In angstrom.

    Raises:
        GraphError: If vesin refuses a system.
    """
    search = NeighborList(
        cutoff=cutoff + SEARCH_MARGIN, full_list=True, n_threads=torch.get_num_threads()
    )
    pos, cell, pbc = (x.cpu().numpy() for x in (systems.pos, systems.cell, systems.pbc))
    parts = []
    start = 0
    for b, count in enumerate(systems.natoms.tolist()):
        try:
            pairs, shifts = search.compute(pos[start : start + count], cell[b], pbc[b], "PS", False)
        except RuntimeError as error:
            raise GraphError(
                f"vesin cannot search system {b}: {error}", fix='Use backend="torch".'
            ) from error
        # The arrays belong to `search`, which reuses them: copy before the next system.
        first, second = pairs.view(np.int64).T + start
        parts.append((second, first, shifts.astype(np.int64)))
        start += count
    columns = (x[0] if len(x) == 1 else np.concatenate(x) for x in zip(*parts, strict=True))
    return Candidates(*(torch.from_numpy(x).to(systems.pos.device) for x in columns))
