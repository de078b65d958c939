"""Sums over the angles at each atom, in time that grows with the edges and not with the triplets.

The sum over neighbors k of j of ``A_l(k) P_l(cos(k j i))`` needs no list of the triplets k, j, i.
By the addition theorem of spherical harmonics ``P_l(u . v)`` is the inner product of the harmonics
of u and v, so that the sum over k is one product per atom j, which all its edges to atoms i share;
the excluded k = i, at angle zero, where every ``P_l`` is 1, is taken away again.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from adatom.core.traced_input import traced_input
from adatom.nn.edge_matching import EdgeEnds, find_edges
from adatom.nn.target_chunks import TargetChunks, target_chunks


class Arrivals(NamedTuple):
    """Edges k -> j in chunks of equal atom j.

    Attributes:
        chunks: Which edge is in which slot.
        slot: ``[E]`` int64; the slot of each edge.
        harmonics: ``[chunks, size, L^2]`` of the direction from j to k.
        radial: ``[L, slots, R]``; zero in empty slots.
    """

    chunks: TargetChunks
    slot: torch.Tensor
    harmonics: torch.Tensor
    radial: torch.Tensor


class Departures(NamedTuple):
    """Edges j -> i in chunks of equal atom j, and which arrival is not to count for each.

    Attributes:
        chunks: Chunks of the edges in the order of their sources.
        slot: ``[E]`` int64; the slot of each edge.
        harmonics: ``[chunks, size, L^2]`` of the direction from j to i.
        excluded: ``[E]`` int64; the slot of the edge i -> j among the arrivals.
        excludes: ``[E, 1]``; 1, or 0 where there is no such edge.
    """

    chunks: TargetChunks
    slot: torch.Tensor
    harmonics: torch.Tensor
    excluded: torch.Tensor
    excludes: torch.Tensor


def arrivals(
    target: torch.Tensor, harmonics: torch.Tensor, radial: torch.Tensor, num_atoms: int
) -> Arrivals:
    """Prepare the edges over which sums go.

    Args:
        target: ``[E]`` int64, non-decreasing.
        harmonics: ``[E, L^2]`` spherical harmonics of degrees 0 .. L - 1 of the direction from
            target to source; the squares of each degree sum to 1.
        radial: ``[L, E, R]`` radial functions of each degree.
        num_atoms: N.
    """
    chunks = target_chunks(target, num_atoms)
    slots = radial.index_select(1, chunks.edges.flatten())
    slots = slots * chunks.filled.flatten().unsqueeze(1).to(radial.dtype)
    return Arrivals(chunks, chunks.slots(target.shape[0]), chunks.gather(harmonics), slots)


def departures(
    ends: EdgeEnds, harmonics: torch.Tensor, into: Arrivals, arriving: EdgeEnds
) -> Departures:
    """Prepare the edges that get a sum each.

    Args:
        ends: Edges in any order.
        harmonics: ``[E, L^2]`` as in :func:`arrivals`, of these edges.
        into: The edges over which sums go.
        arriving: The same.
    """
    num_atoms = into.chunks.num_atoms
    order = torch.argsort(ends.source, stable=True)
    chunks = target_chunks(ends.source[order], num_atoms)
    chunks = chunks._replace(edges=order[chunks.edges])
    slot = chunks.slots(order.shape[0])
    reverse = find_edges(ends.reversed(), arriving, num_atoms)
    excludes = (reverse >= 0).to(harmonics.dtype).unsqueeze(1)
    padded = torch.cat([into.slot, into.slot.new_zeros(1)])  # where -1 points to
    opposite = chunks.gather(harmonics * _parities(harmonics))
    return Departures(chunks, slot, opposite, padded[reverse], excludes)


def angular_sums(
    features: torch.Tensor, weight: torch.Tensor, into: Arrivals, out_of: Departures
) -> torch.Tensor:
    """Sum over all k != i, for each edge j -> i.

    Args:
        features: ``[E, C]`` of the edges k -> j.
        weight: ``[L, R, C]``.
        into: The edges k -> j.
        out_of: The edges j -> i.

    Returns:
        ``[E', C]``, the sum over k, l and r of
        ``features[kj, c] radial[l, kj, r] weight[l, r, c] P_l(cos(k j i))``, where k is not the
        same periodic image of the same atom as i.
    """
    empty = traced_input() is None and not (features.shape[0] and out_of.slot.shape[0])
    if empty:
        return features.new_zeros((out_of.slot.shape[0], features.shape[1]))
    slots = features.index_select(0, into.chunks.edges.flatten())
    terms = torch.bmm(into.radial, weight) * slots
    shape = (*into.chunks.edges.shape, features.shape[1])
    sums = torch.cat(
        [
            torch.bmm(into.harmonics[:, :, degree**2 : (degree + 1) ** 2].mT, own.view(shape))
            for degree, own in enumerate(terms)
        ],
        dim=1,
    )
    at_atoms = into.chunks.sum_to_atoms(sums)
    summed = torch.bmm(out_of.harmonics, at_atoms.index_select(0, out_of.chunks.atoms))
    summed = summed.flatten(0, 1).index_select(0, out_of.slot)
    own_terms = terms.sum(0).index_select(0, out_of.excluded)
    return summed - own_terms * out_of.excludes


def _parities(harmonics: torch.Tensor) -> torch.Tensor:
    """Return what harmonics ``[E, L^2]`` are multiplied by when directions are reversed."""
    degrees = math.isqrt(harmonics.shape[1])
    signs = [float((-1) ** degree) for degree in range(degrees) for _ in range(2 * degree + 1)]
    return harmonics.new_tensor(signs)
