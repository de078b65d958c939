"""How far a fast path may be from the plain one before it is not trusted.

Both compute the same sums in another order, so differences are rounding. Each tolerance applies
to a deviation divided by the larger of 1 and the greatest value of its kind (per atom for
energies), because rounding grows with what is summed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch

#: By dtype of the network: eV per atom, eV/angstrom, eV (virial of the whole sample, per atom).
TOLERANCES: Mapping[torch.dtype, Mapping[str, float]] = MappingProxyType(
    {
        torch.float64: MappingProxyType(
            {"energy": 1e-9, "relaxed_energy": 1e-9, "forces": 1e-8, "stress": 1e-8}
        ),
        torch.float32: MappingProxyType(
            {"energy": 1e-5, "relaxed_energy": 1e-5, "forces": 1e-4, "stress": 1e-4}
        ),
    }
)
