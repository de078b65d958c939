"""Which edge of a list is the same one as, or the reverse of, a given edge."""

from __future__ import annotations

from typing import NamedTuple

import torch

from adatom.core.traced_input import traced_input

#: Vectors between the same two atoms that differ by less than this (angstrom) are those of one
#: edge, seen with other rounding. Those of different periodic images differ by a lattice vector.
SAME_IMAGE = 1e-2


class EdgeEnds(NamedTuple):
    """Edges as far as it takes to tell them apart.

    Attributes:
        source: ``[E]`` int64.
        target: ``[E]`` int64.
        vectors: ``[E, 3]`` from target to source, in angstrom: which periodic image it is.
    """

    source: torch.Tensor
    target: torch.Tensor
    vectors: torch.Tensor

    def reversed(self) -> EdgeEnds:
        """Return the same edges in the other direction."""
        return EdgeEnds(self.target, self.source, -self.vectors)


@torch.no_grad()
def find_edges(wanted: EdgeEnds, listed: EdgeEnds, num_atoms: int) -> torch.Tensor:
    """Return where each edge is in a list, ``[E]`` int64; -1 where it is not there.

    Args:
        wanted: ``E`` edges, in any order.
        listed: The edges among which to look, in any order.
        num_atoms: N.
    """
    keys, order = torch.sort(listed.target * num_atoms + listed.source, stable=True)
    wanted_keys = wanted.target * num_atoms + wanted.source
    first = torch.searchsorted(keys, wanted_keys)
    if traced_input() is not None:
        # No two edges have the same key. What is beyond the last one is not found.
        nothing = keys.new_full((1,), -1)
        there = torch.cat([keys, nothing])[first] == wanted_keys
        return torch.where(there, torch.cat([order, nothing])[first], -1)
    images = torch.searchsorted(keys, wanted_keys, right=True) - first
    # One row for each wanted edge and each listed one between the same two atoms.
    total = int(images.sum())
    edge = torch.repeat_interleave(images, output_size=total)
    start = first - (torch.cumsum(images, 0) - images)
    candidate = order[start[edge] + torch.arange(total, device=edge.device)]
    gaps = (wanted.vectors[edge] - listed.vectors[candidate]).abs().amax(dim=1)
    same = torch.nonzero(gaps < SAME_IMAGE).squeeze(1)
    return torch.full_like(wanted_keys, -1).index_copy_(0, edge[same], candidate[same])
