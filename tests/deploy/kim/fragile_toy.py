"""A toy that fails wherever an atom of the process is far out: on one rank of two, for example."""

from __future__ import annotations

import torch
from kim_toys import PairSum


class FailsBeyond(PairSum):
    """Raw convention."""

    def forward(
        self,
        species: torch.Tensor,
        coords: torch.Tensor,
        n_neigh: torch.Tensor,
        nlist: torch.Tensor,
        contributing: torch.Tensor,
    ) -> torch.Tensor:
        contributors = torch.nonzero(contributing)[:, 0]
        if bool((coords[contributors, 0] > 30.0).any()):
            raise RuntimeError("an atom is beyond 30")
        centers = torch.repeat_interleave(contributors, n_neigh.to(torch.int64))
        neighbors = nlist.to(torch.int64)
        vectors = coords[neighbors] - coords[centers]
        return self.energies(species, neighbors, centers, vectors) * contributing
