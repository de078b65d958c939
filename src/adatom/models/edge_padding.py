"""Edges padded to one of a few counts, so that what is recorded for one serves a whole run."""

from __future__ import annotations

import math

import torch

from adatom.core.errors import ConfigError
from adatom.models.base import Neighborhood


def bucket(count: int, *, least: int = 64, ratio: float = 1.2, multiple: int = 16) -> int:
    """Return the smallest of a fixed series of sizes that holds ``count``.

    Args:
        count: What has to fit.
        least: The first size.
        ratio: Of a size to the one before: at most this much is computed in vain.
        multiple: Sizes are rounded up to multiples of this.

    Raises:
        ConfigError: If the series would not grow.
    """
    if least < 1 or multiple < 1 or not ratio > 1:
        raise ConfigError(
            f"Buckets from {least} in steps of {ratio}", expected="at least 1, and above 1"
        )
    size = -(-least // multiple) * multiple
    while size < count:
        size = -(-math.ceil(size * ratio) // multiple) * multiple
    return size


def pad_edges(
    edges: Neighborhood, batch: torch.Tensor, edges_to: int, cutoff: float
) -> Neighborhood:
    """Add edges from atoms to themselves whose length is the cutoff.

    At the cutoff every envelope vanishes with its slope, so features and gradients stay the same to
    rounding. Composition and systems stay as they are; the new edges are shared out evenly.

    Args:
        edges: The edges of a batch; not modified.
        batch: ``[N]`` int64; the system of each atom.
        edges_to: Edges of the result.
        cutoff: Of the potential, in angstrom.

    Returns:
        New edges, sorted by target as a backbone wants them, or ``edges`` if there are this many.

    Raises:
        ConfigError: If there are more edges already, or no atoms to put them on.
    """
    present, atoms = edges.target.shape[0], batch.shape[0]
    if edges_to == present:
        return edges
    if edges_to < present or not atoms:
        raise ConfigError(
            f"{present} edges of {atoms} atoms were to be padded to {edges_to}",
            expected="no fewer edges than there are, and an atom",
        )
    count = edges_to - present
    loops = torch.arange(count, device=batch.device) * atoms // count
    target, order = torch.sort(torch.cat([edges.target, loops]), stable=True)
    vectors = edges.vectors.new_zeros(count, 3)
    vectors[:, 0] = cutoff
    added = torch.zeros_like(edges.counts).index_add(
        0, batch[loops], torch.ones_like(loops, dtype=edges.counts.dtype)
    )
    return Neighborhood(
        torch.cat([edges.source, loops])[order],
        target,
        torch.cat([edges.vectors, vectors])[order],
        edges.counts + added,
    )
