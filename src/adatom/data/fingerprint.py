"""A geometry fingerprint that does not change under permutation, rotation and translation."""

from __future__ import annotations

import numpy as np

#: Length of the fingerprint vector.
FINGERPRINT_SIZE = 11

_NEAREST = 12
_BLOCKS = 8
_SMOOTH_RANGE = 5.0
_SMOOTH_SCALE = 0.3


def geometry_fingerprint(
    numbers: np.ndarray, source: np.ndarray, target: np.ndarray, distance: np.ndarray, reach: float
) -> np.ndarray:
    """Describe a structure by its sorted nearest distances and element-weighted pair sums.

    The first 8 numbers are means over equal parts of the sorted list of every atom's 12 nearest
    distances (angstrom). Sorting is a contraction: moving each distance by at most x moves each
    of these numbers by at most x. The last 3 are smooth pair sums with weights that depend on
    both elements, so that two orderings of an alloy on one lattice differ. All of them are per
    atom: a supercell has the fingerprint of its cell.

    Args:
        numbers: ``[n]`` atomic numbers.
        source: ``[E]`` source atom of each directed edge.
        target: ``[E]`` target atom of each directed edge.
        distance: ``[E]`` in angstrom, complete up to ``reach``.
        reach: Distances beyond it (and neighbors that do not exist) count as ``reach``.

    Returns:
        ``[11]`` float64.
    """
    nearest = _nearest_distances(len(numbers), target, distance, reach)
    blocks = _block_means(np.sort(nearest, axis=None))
    falloff = np.clip(1.0 - distance / _SMOOTH_RANGE, 0.0, None) ** 3
    waves = np.cos(np.outer((0.7, 1.9, 3.1), numbers))
    sums = (waves[:, source] * waves[:, target] * falloff).sum(axis=1) / len(numbers)
    return np.concatenate([blocks, _SMOOTH_SCALE * sums])


def _nearest_distances(
    n: int, target: np.ndarray, distance: np.ndarray, reach: float
) -> np.ndarray:
    order = np.lexsort((distance, target))
    sorted_target = target[order]
    rank = np.arange(len(order)) - np.searchsorted(sorted_target, sorted_target)
    keep = rank < _NEAREST
    nearest = np.full((n, _NEAREST), reach)
    nearest[sorted_target[keep], rank[keep]] = np.minimum(distance[order][keep], reach)
    return nearest


def _block_means(values: np.ndarray) -> np.ndarray:
    # Means of the quantile function over equal intervals; exact for any length, so that a list
    # repeated k times gives the same numbers.
    integral = np.concatenate([[0.0], np.cumsum(values)])
    edges = np.linspace(0.0, len(values), _BLOCKS + 1)
    at_edges = np.interp(edges, np.arange(len(values) + 1), integral)
    return np.asarray(np.diff(at_edges) * (_BLOCKS / len(values)), dtype=np.float64)
