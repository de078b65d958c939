"""Radial networks as tables over the distance, one per pair of element types.

For one pair the outputs of a radial network depend on the distance only, and they are smooth. Of
its hundreds of outputs only a few dozen combinations are independent to float32 rounding: they are
found by a singular value decomposition and stored as piecewise polynomials.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
from torch import nn

from adatom.nn.radial import RadialInputs, RadialMLP, gaussian_basis

#: Equal intervals from zero to the cutoff, and coefficients on each (``kTerms`` in the kernel).
INTERVALS = 128
_TERMS = 6
#: Singular values below this fraction of the largest are left out.
_SMALLEST = 1e-7
#: Largest error of the outputs and of their slopes, as a fraction of the largest output and slope.
_TOLERANCE = 5e-7
_SLOPE_TOLERANCE = 1e-5
#: Points where tables are compared with the network.
_CHECKED = 301


@dataclass(frozen=True)
class RadialTable:
    """Outputs of a radial network for one pair: piecewise polynomials times a matrix.

    Attributes:
        coefficients: ``[intervals, terms, rank]``; powers of -1 ... 1 across each interval.
        outputs: ``[rank, out]``.
    """

    coefficients: torch.Tensor
    outputs: torch.Tensor

    @property
    def rank(self) -> int:
        """Number of functions."""
        return self.outputs.shape[0]


def radial_tables(
    net: RadialMLP,
    cutoff: float,
    source_features: torch.Tensor,
    target_features: torch.Tensor,
    columns: int,
) -> list[RadialTable] | None:
    """Return one table for each pair (target type, then source type).

    Args:
        net: The network.
        cutoff: In angstrom.
        source_features: ``[T, Ce]``.
        target_features: ``[T, Ce]``.
        columns: Ranks are rounded up to a multiple of this.

    Returns:
        The tables in the network's dtype, or None if one of them would not be as exact as the
        network itself in float32.
    """
    # In float64, whatever the network's dtype: differences are as small as float32 rounding.
    exact = _Double(net)
    last = torch.cat([exact.weight, exact.bias.unsqueeze(1)], dim=1)
    orthogonal, triangular = torch.linalg.qr(last)
    points, fit = _points(cutoff)
    checked = cutoff * (torch.arange(_CHECKED, dtype=torch.float64) + 0.5) / _CHECKED
    width = net.edge_channels
    tables = []
    for target in target_features.double():
        for source in source_features.double():
            hidden = exact.hidden(points, cutoff, source, target)
            _, sizes, right = torch.linalg.svd(hidden @ triangular.T, full_matrices=False)
            rank = int((sizes > _SMALLEST * sizes[0]).sum())
            rank = -(-rank // columns) * columns
            if rank > min(width, right.shape[0]):
                return None
            kept = right[:rank]
            values = (hidden @ (kept @ triangular).T).view(INTERVALS, _TERMS, rank)
            table = RadialTable(fit @ values, kept @ orthogonal.T)
            truth = exact.hidden(checked, cutoff, source, target) @ last.T
            if not _is_exact(table, checked, cutoff, truth):
                return None
            dtype = net.final.weight.dtype
            tables.append(RadialTable(table.coefficients.to(dtype), table.outputs.to(dtype)))
    return tables


class _Double:
    """A radial network in float64."""

    def __init__(self, net: RadialMLP) -> None:
        self.net = net
        self.layers = [
            {name: value.detach().double() for name, value in layer.named_parameters()}
            for layer in net.net
        ]
        self.weight, self.bias = self.layers[-1]["weight"], self.layers[-1]["bias"]

    def hidden(
        self, distances: torch.Tensor, cutoff: float, source: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        """Return the last hidden layer and a column of ones, ``[n, Ce + 1]``."""
        basis = gaussian_basis(distances, cutoff, self.net.num_basis)
        elements = torch.cat([source, target]).expand(len(distances), -1)
        x = torch.cat([basis, elements], dim=1)
        for layer, own in zip(list(self.net.net)[:-1], self.layers[:-1], strict=True):
            x = torch.func.functional_call(layer, own, (x,))
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


@lru_cache(maxsize=8)
def _points(cutoff: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the functions are sampled, ``[n]``, and from samples to coefficients."""
    k = torch.arange(_TERMS, dtype=torch.float64)
    nodes = torch.cos((k + 0.5) * torch.pi / _TERMS)
    starts = torch.arange(INTERVALS, dtype=torch.float64).unsqueeze(1)
    points = (starts + (nodes + 1) / 2) * (cutoff / INTERVALS)
    return points.flatten(), torch.linalg.inv(nodes.unsqueeze(1) ** k)


def _is_exact(
    table: RadialTable, distances: torch.Tensor, cutoff: float, truth: torch.Tensor
) -> bool:
    place = distances * (INTERVALS / cutoff)
    interval = place.long()
    t = (2 * (place - interval) - 1).unsqueeze(1)
    found = (t ** torch.arange(_TERMS)).unsqueeze(1) @ table.coefficients[interval]
    error = (found.squeeze(1) @ table.outputs) - truth
    return bool(error.abs().max() <= _TOLERANCE * truth.abs().max())
