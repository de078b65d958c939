"""What a backend returns: pairs that may be edges."""

from __future__ import annotations

from typing import NamedTuple

import torch

#: Backends search this much farther than the cutoff (angstrom), so that no edge is lost to the
#: rounding of their own arithmetic; the exact rule is applied afterwards, once for all backends.
SEARCH_MARGIN = 1e-6


class Candidates(NamedTuple):
    """Directed pairs in any order: every edge once, and possibly pairs that are too long.

    Attributes:
        source: ``[P]`` int64; atom j, numbered through the batch.
        target: ``[P]`` int64; atom i.
        offsets: ``[P, 3]`` int64; image n of ``r_j - r_i + n @ cell``.
    """

    source: torch.Tensor
    target: torch.Tensor
    offsets: torch.Tensor
