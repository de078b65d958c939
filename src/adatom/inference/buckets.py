"""Batches of equal shape: sizes in steps, and padding that changes no prediction.

What is compiled or captured for one shape serves a whole run of molecular dynamics if the numbers
of edges and atoms, which change from step to step, are rounded up to one of a few sizes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch

from adatom.core.errors import ConfigError, GraphError
from adatom.data.atomic_data import AtomicData
from adatom.graph.edges import Edges
from adatom.models.base import Neighborhood

#: Predictions with one row per atom; "hessian" has three rows and columns per atom.
_PER_ATOM = frozenset({"forces", "energies", "virials", "embeddings"})
#: Identifier of the system that pads a batch.
PADDING = "padding"


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


def pad_batch(data: AtomicData, edges_to: int, atoms_to: int, *, cutoff: float) -> AtomicData:
    """Add one system of padding atoms, and edges among them whose length is the cutoff.

    The other systems and their edges stay as they are, and no edge leads to or from them, so their
    predictions stay the same to rounding. At the cutoff every envelope vanishes with its slope. The
    element, charge, spin and dataset of the padding are those of the last system, so that it is
    something that the potential knows. A mixture of experts merges weights for it, and a potential
    that was merged for one composition refuses it: then :func:`pad_edges` serves.

    Args:
        data: A batch with edges; it is not modified.
        edges_to: Edges of the result.
        atoms_to: Atoms of the result, at least one more than there are if edges have to be added.
        cutoff: Of the potential, in angstrom.

    Returns:
        A batch with one more system and without labels, or ``data`` if it has this size.

    Raises:
        GraphError: If ``data`` has no edges.
        ConfigError: If the result would be too small.
    """
    if data.edges is None:
        raise GraphError("The batch has no edges", fix="Call data.with_edges(cutoff) first.")
    atoms, edges = atoms_to - data.num_atoms, edges_to - data.edges.num_edges
    if (atoms, edges) == (0, 0):
        return data
    if atoms < 1 or edges < 0:
        raise ConfigError(
            f"A batch of {data.num_atoms} atoms and {data.edges.num_edges} edges was to be padded "
            f"to {atoms_to} atoms and {edges_to} edges",
            expected="at least one more atom, and no fewer edges",
        )
    ghosts = _last(data)
    return replace(
        data,
        pos=torch.cat([data.pos, data.pos.new_zeros(atoms, 3)]),
        atomic_numbers=torch.cat([data.atomic_numbers, data.atomic_numbers[-1:].expand(atoms)]),
        cell=torch.cat([data.cell, cutoff * torch.eye(3).to(data.cell).unsqueeze(0)]),
        pbc=torch.cat([data.pbc, torch.ones_like(data.pbc[:1])]),
        natoms=torch.cat([data.natoms, data.natoms.new_tensor([atoms])]),
        batch=torch.cat([data.batch, data.batch.new_full((atoms,), data.num_systems)]),
        charge=torch.cat([data.charge, data.charge[-1:]]),
        spin=torch.cat([data.spin, data.spin[-1:]]),
        tags=torch.cat([data.tags, data.tags.new_zeros(atoms)]),
        fixed=torch.cat([data.fixed, data.fixed.new_zeros(atoms)]),
        edges=_padded_edges(data.edges, data.num_atoms, atoms, edges),
        labels={},
        **ghosts,
    )


def unpad(
    values: Mapping[str, torch.Tensor], num_systems: int, num_atoms: int
) -> dict[str, torch.Tensor]:
    """Remove the rows of padding from predictions.

    Args:
        values: Predictions by property name.
        num_systems: Systems before the padding.
        num_atoms: Atoms before the padding.
    """
    out = {}
    for name, value in values.items():
        if name == "hessian":
            out[name] = value[: 3 * num_atoms, : 3 * num_atoms]
        else:
            out[name] = value[: num_atoms if name in _PER_ATOM else num_systems]
    return out


def _last(data: AtomicData) -> dict[str, list[str]]:
    """Return the lists of a batch with an entry for the padding."""
    return {"dataset": [*data.dataset, data.dataset[-1]], "sid": [*data.sid, PADDING]}


def _padded_edges(edges: Edges, first: int, atoms: int, count: int) -> Edges:
    """Add edges of padding atoms to their own images, shared out evenly."""
    rows = torch.arange(count, device=edges.index.device)
    loops = first + (rows * atoms) // max(count, 1)
    offsets = edges.offsets.new_zeros(count, 3)
    offsets[:, 0] = 1
    return Edges(
        torch.cat([edges.index, loops.expand(2, count)], dim=1),
        torch.cat([edges.offsets, offsets]),
        torch.cat([edges.counts, edges.counts.new_tensor([count])]),
    )
