"""Positions and cell of a batch as something to differentiate by, beside the edge vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from adatom.data.atomic_data import AtomicData


@dataclass(slots=True, eq=False)
class Placement:
    """What moves the positions and the cell that a network is given; both are zero.

    Attributes:
        shift: ``[N, 3]`` float64, angstrom; added to the positions.
        strain: ``[B, 3, 3]`` float64; positions and cells are multiplied by one plus this.
    """

    shift: torch.Tensor
    strain: torch.Tensor


def displaced(data: AtomicData) -> tuple[AtomicData, Placement]:
    """Return the same batch with positions and cell that depend on a shift and a strain.

    Edge vectors are not part of it: they are leaves of their own, so that the derivative of an
    energy by positions is that by the shift plus a sum over edges.
    """
    shift = torch.zeros_like(data.pos).requires_grad_(True)
    strain = torch.zeros_like(data.cell).requires_grad_(True)
    deformation = torch.eye(3, dtype=strain.dtype, device=strain.device) + strain
    pos = torch.bmm((data.pos + shift).unsqueeze(1), deformation[data.batch]).squeeze(1)
    return replace(data, pos=pos, cell=torch.bmm(data.cell, deformation)), Placement(shift, strain)
