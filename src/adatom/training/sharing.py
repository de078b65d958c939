"""Share the structures of one step out over processes, so that none waits long for another."""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt


def share_out(
    load: npt.NDArray[np.int64], world: int, *, most: int | None = None
) -> list[npt.NDArray[np.int64]]:
    """Give each structure, the largest first, to the process that has the least to do.

    Args:
        load: ``[S]`` work of each structure, such as its edges.
        world: Number of processes.
        most: Structures that one process may get; None for any number.

    Returns:
        For each process the positions of its structures, ascending. Shares are empty only where
        there are fewer structures than processes.
    """
    shares: list[list[int]] = [[] for _ in range(world)]
    # Equal loads are decided by the number of structures, then by rank: never by chance.
    waiting = [(0, 0, rank) for rank in range(world)]
    for position in np.argsort(-load, kind="stable").tolist():
        total, count, rank = heapq.heappop(waiting)
        shares[rank].append(position)
        if most is None or count + 1 < most:
            heapq.heappush(waiting, (total + int(load[position]), count + 1, rank))
    return [np.array(sorted(share), dtype=np.int64) for share in shares]
