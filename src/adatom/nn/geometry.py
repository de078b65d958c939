"""What every layer needs to know of the edges, computed once per edge list."""

from __future__ import annotations

from typing import NamedTuple

import torch

from adatom.nn.experts import Run
from adatom.nn.layout import CoefficientLayout
from adatom.nn.radial import RadialInputs, gaussian_basis, polynomial_envelope
from adatom.nn.wigner import edge_rotations


class EdgeGeometry(NamedTuple):
    """Edges of one layer in the form that convolutions use.

    Attributes:
        source: ``[E]`` int64; atom j.
        target: ``[E]`` int64; atom i.
        rotations: ``[E, R, S]`` from node coefficients to the edge frame.
        returns: ``[E, R, S]``; the same times the envelope. Its transpose takes messages back.
        radial: Inputs of the radial networks.
        runs: Edges that share expert weights.
    """

    source: torch.Tensor
    target: torch.Tensor
    rotations: torch.Tensor
    returns: torch.Tensor
    radial: RadialInputs
    runs: list[Run]


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
    runs: list[Run],
) -> EdgeGeometry:
    """Derive rotations, envelope and radial inputs from edge vectors.

    Args:
        source: ``[E]`` int64.
        target: ``[E]`` int64.
        vectors: ``[E, 3]`` in angstrom, none of them zero.
        layout: Degrees and orders.
        cutoff: In angstrom.
        num_basis: K.
        types: Elements of the atoms.
        runs: Edges that share expert weights.
    """
    distances = torch.linalg.vector_norm(vectors, dim=1)
    rotations = edge_rotations(vectors / distances.unsqueeze(1), layout)
    envelope = polynomial_envelope(distances, cutoff)
    num_types = types.source_features.shape[0]
    radial = RadialInputs(
        gaussian_basis(distances, cutoff, num_basis),
        types.of_atom.index_select(0, target) * num_types + types.of_atom.index_select(0, source),
        types.source_features,
        types.target_features,
    )
    return EdgeGeometry(
        source, target, rotations, rotations * envelope[:, None, None], radial, runs
    )
