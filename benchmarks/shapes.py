"""Sizes of the networks that are compared."""

from __future__ import annotations

from typing import Any

#: Keyword arguments that both programs' eSCN-MD backbones share.
SHAPES: dict[str, dict[str, Any]] = {
    # The released UMA-S (shared/reference/uma.md, section 1.14).
    "uma-s": {
        "sphere_channels": 128,
        "hidden_channels": 128,
        "edge_channels": 128,
        "lmax": 2,
        "mmax": 2,
        "num_layers": 4,
        "num_distance_basis": 32,
        "num_experts": 32,
        "cutoff": 6.0,
        "max_neighbors": 300,
    },
    # About what the embedded default potential has.
    "small": {
        "sphere_channels": 32,
        "hidden_channels": 32,
        "edge_channels": 32,
        "lmax": 2,
        "mmax": 2,
        "num_layers": 2,
        "num_distance_basis": 32,
        "num_experts": 8,
        "cutoff": 5.0,
        "max_neighbors": 300,
    },
}

#: Sizes of the MACE that is timed beside them; its architecture is another one.
MACE_SHAPES: dict[str, dict[str, Any]] = {
    # As the medium foundation models (MACE-MP-0, arXiv:2401.00096): 4.7 million parameters.
    "medium": {
        "hidden_irreps": "128x0e + 128x1o",
        "layers": 2,
        "max_ell": 3,
        "correlation": 3,
        "num_bessel": 10,
        "elements": 89,
        "cutoff": 6.0,
    },
    # As many parameters, about, and the same cutoff as "small" above, also for all elements.
    "small": {
        "hidden_irreps": "54x0e + 54x1o",
        "layers": 2,
        "max_ell": 3,
        "correlation": 3,
        "num_bessel": 10,
        "elements": 89,
        "cutoff": 5.0,
    },
}

#: One factor of all outputs, as in the released models.
RMSD = 1.423
