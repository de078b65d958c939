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
            the chunks, ``[chunks, S, size]`` for m = 0 and ``[chunks, 2 (S - m^2), size * 2]`` for
            m >= 1. Their product with features ``[chunks, size * 2, ...]`` (slot, then sign of m)
            has the real parts of ``d conj(x)``, then the imaginary parts, each over the node
            coefficients of degree >= m (d: rows +m and -m of the rotation as a complex number).
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

    def pairs(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Number the pairs of types of edges; see :class:`adatom.nn.radial.RadialInputs`."""
        num_types = self.source_features.shape[0]
        return self.of_atom[target] * num_types + self.of_atom[source]


def edge_geometry(
    source: torch.Tensor,
    target: torch.Tensor,
    vectors: torch.Tensor,
    *,
    layout: CoefficientLayout,
    cutoff: float,
    num_basis: int,
    types: ElementTypes,
    num_atoms: int,
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
        types: Elements of the sources and targets.
        num_atoms: N; targets are below this.
        edge_runs: Edges that share expert weights.
        atom_runs: Atoms that share expert weights.
    """
    distances = torch.linalg.vector_norm(vectors, dim=1)
    rotations = edge_rotations(vectors / distances.unsqueeze(1), layout)
    envelope = polynomial_envelope(distances, cutoff)
    chunks = target_chunks(target, num_atoms)
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
            types.pairs(source, target),
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
    entries, signs, sizes = _entry_table(layout, rotations.dtype, rotations.device)
    values = rotations.flatten(1).index_select(1, entries) * signs * envelope.unsqueeze(1)
    slots = chunks.gather(values) * chunks.filled.unsqueeze(2).to(values.dtype)
    # A split into one part would come back from the derivative as a view that cannot be compiled.
    zero, *others = torch.split(slots, sizes, dim=2) if layout.mmax else [slots]
    returns = [zero.transpose(1, 2).contiguous()]
    for m, part in enumerate(others, start=1):
        rows = 2 * (layout.node_size - m * m)
        returns.append(part.unflatten(2, (rows, 2)).transpose(1, 2).flatten(2))
    return returns


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def _entry_table(
    layout: CoefficientLayout, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Return where the rotations are nonzero, per order.

    For m >= 1 there is an entry for each of (real or imaginary part of the product, column, sign
    of the feature): d conj(x) = (d+ x+ + d- x-) + i (d- x+ - d+ x-).

    Returns:
        The flat index and the sign of each entry, and the number of entries of each order.
    """
    row_of = {pair: row for row, pair in enumerate(layout.edge_coefficients)}
    entries: list[int] = []
    signs: list[float] = []
    sizes = []
    for m in range(layout.mmax + 1):
        before = len(entries)
        parts = [((m, 1), (-m, 1)), ((-m, 1), (m, -1))] if m else [((0, 1),)]
        for part in parts:
            for degree in range(m, layout.lmax + 1):
                for column in range(degree**2, (degree + 1) ** 2):
                    for order, sign in part:
                        entries.append(row_of[degree, order] * layout.node_size + column)
                        signs.append(sign)
        sizes.append(len(entries) - before)
    return (
        torch.tensor(entries, device=device),
        torch.tensor(signs, dtype=dtype, device=device),
        sizes,
    )
