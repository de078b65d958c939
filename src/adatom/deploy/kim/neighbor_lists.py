"""Neighbor lists of particles, as a KIM simulator gives them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adatom.deploy.kim.configuration import Configuration, Floats, Integers


@dataclass(frozen=True)
class NeighborLists:
    """Full lists, one after the other.

    Attributes:
        start: ``[N + 1]`` int64; the list of particle i is ``particles[start[i]:start[i + 1]]``.
        particles: int32 indices.
    """

    start: Integers
    particles: npt.NDArray[np.int32]


def neighbor_pairs(coordinates: Floats, cutoff: float) -> tuple[Integers, Integers]:
    """Find all ordered pairs of particles with ``|x_j - x_i| <= cutoff``.

    Args:
        coordinates: ``[N, 3]`` in angstrom.
        cutoff: In angstrom.

    Returns:
        j and i, each ``[E]``, sorted by i, then by j; both directions are there.
    """
    from scipy.spatial import cKDTree

    # The tree rounds in another way: its pairs are only candidates.
    found = cKDTree(coordinates).query_pairs(cutoff * (1 + 1e-9), output_type="ndarray")
    first, second = found[:, 0].astype(np.int64), found[:, 1].astype(np.int64)
    squared = ((coordinates[first] - coordinates[second]) ** 2).sum(axis=1)
    within = squared <= cutoff * cutoff
    first, second = first[within], second[within]
    sender, receiver = np.concatenate([first, second]), np.concatenate([second, first])
    order = np.lexsort((sender, receiver))
    return sender[order], receiver[order]


def neighbor_lists(
    configuration: Configuration, cutoff: float, *, of_ghosts: bool
) -> NeighborLists:
    """Make the lists of contributing particles and, if asked for, of ghosts.

    Args:
        configuration: The particles.
        cutoff: In angstrom.
        of_ghosts: Whether ghosts have lists, too; otherwise theirs are empty.
    """
    sender, receiver = neighbor_pairs(configuration.coordinates, cutoff)
    if not of_ghosts:
        wanted = configuration.contributing[receiver]
        sender, receiver = sender[wanted], receiver[wanted]
    counts = np.bincount(receiver, minlength=len(configuration.species))
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return NeighborLists(start, sender.astype(np.int32))
