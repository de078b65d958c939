"""Forces and stress predicted directly, not as derivatives of an energy."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch

from adatom.core.errors import ConfigError, unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Head, NodeFeatures
from adatom.models.energy_head import REDUCTIONS
from adatom.models.readout import ScalarReadout
from adatom.nn.harmonics import spherical_harmonics
from adatom.nn.segments import segment_sum
from adatom.nn.so3 import SO3Linear


class ForceHead(Head):
    """The vector in each atom's features.

    Such forces are cheap, but no energy is conserved along a trajectory that follows them.

    Args:
        num_channels: C of the backbone.
    """

    gives = ("forces",)

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.linear = SO3Linear(num_channels, 1, 1)

    def forward(self, features: NodeFeatures, data: AtomicData) -> dict[str, torch.Tensor]:
        """Return ``forces [N, 3]`` in network units.

        Raises:
            ConfigError: If the backbone has no features of degree 1.
        """
        del data
        rows = _rows(features, 1, "ForceHead")
        return {"forces": self.linear(rows)[:, 1:, 0]}


class StressHead(Head):
    """A symmetric tensor per system: one number for its trace, five for the rest.

    Args:
        num_channels: C of the backbone.
        hidden_channels: H of the network for the trace.
        dataset_mapping: See :class:`adatom.models.energy_head.EnergyHead`; it acts on the trace.
        reduce: Sum or mean over the atoms.

    Raises:
        UnknownNameError: If ``reduce`` is not known.
    """

    gives = ("stress",)

    def __init__(
        self,
        num_channels: int,
        hidden_channels: int,
        dataset_mapping: dict[str, str] | None = None,
        reduce: Literal["sum", "mean"] = "mean",
    ) -> None:
        super().__init__()
        if reduce not in REDUCTIONS:
            raise unknown_name("reduce", reduce, REDUCTIONS)
        self.reduce = reduce
        self.scalar_block = ScalarReadout(num_channels, hidden_channels, dataset_mapping)
        self.l2_linear = SO3Linear(num_channels, 1, 2)

    def forward(self, features: NodeFeatures, data: AtomicData) -> dict[str, torch.Tensor]:
        """Return ``stress [B, 3, 3]`` in network units, float64.

        Raises:
            ConfigError: If the backbone has no features of degree 2.
            UnknownNameError: If a system's dataset is not in ``dataset_mapping``.
        """
        rows = _rows(features, 2, "StressHead")
        trace = self.scalar_block.read(features.scalars, data).unsqueeze(1)
        traceless = self.l2_linear(rows)[:, 4:, 0]
        parts = torch.cat([trace, traceless], dim=1).double()
        total = segment_sum(parts, data.batch, data.num_systems)
        if self.reduce == "mean":
            total = total / data.natoms.unsqueeze(1)
        basis = _symmetric_basis().to(total.device)
        return {"stress": (total @ basis).view(-1, 3, 3)}


def _rows(features: NodeFeatures, degree: int, head: str) -> torch.Tensor:
    """Return the features up to ``degree``."""
    size = (degree + 1) ** 2
    if features.spherical is None or features.spherical.shape[1] < size:
        raise ConfigError(
            f"{head} needs features of degree {degree}, which the backbone does not have",
            expected=f"a backbone with lmax of at least {degree}",
        )
    return features.spherical[:, :size]


@lru_cache(maxsize=1)
@torch.inference_mode(mode=False)
def _symmetric_basis() -> torch.Tensor:
    """Return an orthonormal basis of symmetric matrices, ``[6, 9]`` float64.

    The first is the identity over sqrt(3). The others make ``u^T M u`` proportional to the
    spherical harmonics of degree 2 at u, in their order, hence transform as these do.
    """
    identity = torch.eye(3, dtype=torch.float64)
    pairs = [(a, b) for a in range(3) for b in range(a, 3)]
    # A quadratic form is known from its values at these directions.
    points = torch.stack(
        [(identity[a] + identity[b]) / math.sqrt(2 + 2 * (a == b)) for a, b in pairs]
    )
    forms = torch.stack([(2 - (a == b)) * points[:, a] * points[:, b] for a, b in pairs], dim=1)
    values = spherical_harmonics(points, 2)[:, 4:]
    entries = torch.linalg.solve(forms, values)
    matrices = torch.zeros(5, 3, 3, dtype=torch.float64)
    for k, (a, b) in enumerate(pairs):
        matrices[:, a, b] = matrices[:, b, a] = entries[k]
    matrices = matrices / matrices.flatten(1).norm(dim=1)[:, None, None]
    return torch.cat([identity[None] / math.sqrt(3), matrices]).flatten(1)
