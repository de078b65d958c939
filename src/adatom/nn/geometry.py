"""What every layer needs to know of the edges, computed once per edge list."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch

from adatom.nn.experts import Run
from adatom.nn.layout import CoefficientLayout
from adatom.nn.radial import RadialInputs, gaussian_basis, polynomial_envelope
from adatom.nn.target_chunks import TargetChunks, target_chunks
from adatom.nn.wigner import edge_rotations


class EdgeGeometry(NamedTuple):
    """Edges of one layer in the form that convolutions use.

    Attributes:
        source: ``[E]`` int64; atom j.
        target: ``[E]`` int64; atom i.
        rotations: ``[E, R, S]`` from node coefficients to the edge frame.
        chunks: The edges grouped by target.
        returns: For each order m, the entries of the rotations times the envelope in the slots of
            the chunks, ``[chunks, S, size]`` for m = 0 and ``[chunks, 2 (S - m^2), size]`` for
            m >= 1: rows run over the sign of m, then over the node coefficients of degree >= m.
        return_sums: ``[N, S]``; entries of order 0 summed over the edges into each atom.
        radial: Inputs of the radial networks.
        edge_runs: Edges that share expert weights.
        atom_runs: Atoms that share expert weights.
    """

    source: torch.Tensor
    target: torch.Tensor
    rotations: torch.Tensor
    chunks: TargetChunks
    returns: list[torch.Tensor]
    return_sums: torch.Tensor
    radial: RadialInputs
    edge_runs: list[Run]
    atom_runs: list[Run]


class ElementTypes(NamedTuple):
    """The elements of a batch, numbered from 0, and what edges know of them.

    Attributes:
        of_atom: ``[N]`` int64 type of each atom.
        source_features: ``[T, Ce]``.
        target_features: ``[T, Ce]``.
    """

    of_atom: torch.Tensor
    source_features: torch.Tensor
    target_features: torch.Tensor


def edge_geometry(
    source: torch.Tensor,
    target: torch.Tensor,
    vectors: torch.Tensor,
    *,
    layout: CoefficientLayout,
    cutoff: float,
    num_basis: int,
    types: ElementTypes,
    edge_runs: list[Run],
    atom_runs: list[Run],
) -> EdgeGeometry:
    """Derive rotations, envelope and radial inputs from edge vectors.

    Args:
        source: ``[E]`` int64.
        target: ``[E]`` int64, non-decreasing.
        vectors: ``[E, 3]`` in angstrom, none of them zero.
        layout: Degrees and orders.
        cutoff: In angstrom.
        num_basis: K.
        types: Elements of the atoms.
        edge_runs: Edges that share expert weights.
        atom_runs: Atoms that share expert weights.
    """
    distances = torch.linalg.vector_norm(vectors, dim=1)
    rotations = edge_rotations(vectors / distances.unsqueeze(1), layout)
    envelope = polynomial_envelope(distances, cutoff)
    num_types = types.source_features.shape[0]
    pairs = types.of_atom[target] * num_types + types.of_atom[source]
    chunks = target_chunks(target, types.of_atom.shape[0])
    returns = _returns(rotations, envelope, chunks, layout)
    return EdgeGeometry(
        source=source,
        target=target,
        rotations=rotations,
        chunks=chunks,
        returns=returns,
        return_sums=chunks.sum_to_atoms(returns[0].sum(2)),
        radial=RadialInputs(
            gaussian_basis(distances, cutoff, num_basis),
            pairs,
            types.source_features,
            types.target_features,
        ),
        edge_runs=edge_runs,
        atom_runs=atom_runs,
    )


def _returns(
    rotations: torch.Tensor,
    envelope: torch.Tensor,
    chunks: TargetChunks,
    layout: CoefficientLayout,
) -> list[torch.Tensor]:
    """Return the nonzero entries of the rotations per order, in the slots of the chunks."""
    entries, sizes = _entry_table(layout, rotations.device)
    values = rotations.flatten(1).index_select(1, entries) * envelope.unsqueeze(1)
    slots = chunks.gather(values) * chunks.filled.unsqueeze(2).to(values.dtype)
    return [part.contiguous() for part in torch.split(slots.transpose(1, 2), sizes, dim=1)]


@lru_cache(maxsize=64)
def _entry_table(layout: CoefficientLayout, device: torch.device) -> tuple[torch.Tensor, list[int]]:
    """Return the flat index of each nonzero entry, ordered by (m, sign, column), and its sizes."""
    row_of = {pair: row for row, pair in enumerate(layout.edge_coefficients)}
    entries: list[int] = []
    sizes = []
    for m in range(layout.mmax + 1):
        before = len(entries)
        for signed in (m, -m) if m else (0,):
            for degree in range(m, layout.lmax + 1):
                start = row_of[degree, signed] * layout.node_size
                entries += range(start + degree**2, start + (degree + 1) ** 2)
        sizes.append(len(entries) - before)
    return torch.tensor(entries, device=device), sizes
