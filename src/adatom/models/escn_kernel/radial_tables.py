"""Radial networks as tables over the distance, one per pair of element types.

For one pair the outputs of a radial network depend on the distance only, and they are smooth. Of
its hundreds of outputs only a few dozen combinations are independent to float32 rounding: they are
found by a singular value decomposition and stored as piecewise polynomials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from adatom.nn.radial import RadialMLP, gaussian_basis

#: Equal intervals from zero to the cutoff, and coefficients on each (``kTerms`` in the kernel).
INTERVALS = 128
_TERMS = 6
#: Numbers of functions that are tried are multiples of this, the width of a vector register.
_STEP_OF_RANK = 16
#: Largest error of the outputs and of their slopes, as a fraction of the largest output and slope.
_TOLERANCE = 5e-7
_SLOPE_TOLERANCE = 1e-5
#: Points where tables are compared with the network.
_CHECKED = 301
#: Of finite differences, in angstrom.
_STEP = 1e-4


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
) -> list[RadialTable] | None:
    """Return one table for each pair (target type, then source type).

    Args:
        net: The network.
        cutoff: In angstrom.
        source_features: ``[T, Ce]``.
        target_features: ``[T, Ce]``.

    Returns:
        The tables in the network's dtype, or None if one of them would not be as exact as the
        network itself in float32.
    """
    # In float64, whatever the network's dtype: differences are as small as float32 rounding.
    exact = _Double(net)
    orthogonal, triangular = torch.linalg.qr(exact.last)
    points, fit = _points(cutoff)
    tables = []
    for target in target_features.double():
        for source in source_features.double():
            hidden = exact.hidden(points, cutoff, source, target)
            _, _, right = torch.linalg.svd(hidden @ triangular.T, full_matrices=False)
            samples = hidden @ (right @ triangular).T
            pieces = fit @ samples.view(INTERVALS, _TERMS, -1)
            table = _smallest(pieces, right @ orthogonal.T, _Truth(exact, cutoff, source, target))
            if table is None:
                return None
            tables.append(table)
    return tables


def _smallest(
    coefficients: torch.Tensor, outputs: torch.Tensor, truth: _Truth
) -> RadialTable | None:
    """Return the table with the fewest functions that is exact enough, in the dtype of the net."""
    dtype = truth.exact.net.final.weight.dtype
    for rank in range(_STEP_OF_RANK, outputs.shape[0], _STEP_OF_RANK):
        table = RadialTable(coefficients[:, :, :rank], outputs[:rank])
        if truth.agrees(table):
            return RadialTable(
                table.coefficients.to(dtype).contiguous(), table.outputs.to(dtype).contiguous()
            )
    return None


class _Double:
    """A radial network in float64."""

    def __init__(self, net: RadialMLP) -> None:
        self.net = net
        self.layers = [
            {name: value.detach().double() for name, value in layer.named_parameters()}
            for layer in net.net
        ]
        final = self.layers[-1]
        self.last = torch.cat([final["weight"], final["bias"].unsqueeze(1)], dim=1)

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

    def outputs(
        self, distances: torch.Tensor, cutoff: float, source: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        """Return all outputs ``[n, out]``."""
        return self.hidden(distances, cutoff, source, target) @ self.last.T


@lru_cache(maxsize=8)
def _points(cutoff: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the functions are sampled, ``[n]``, and from samples to coefficients."""
    k = torch.arange(_TERMS, dtype=torch.float64)
    nodes = torch.cos((k + 0.5) * torch.pi / _TERMS)
    starts = torch.arange(INTERVALS, dtype=torch.float64).unsqueeze(1)
    points = (starts + (nodes + 1) / 2) * (cutoff / INTERVALS)
    return points.flatten(), torch.linalg.inv(nodes.unsqueeze(1) ** k)


class _Truth:
    """Values and slopes of the network for one pair, at distances between the samples."""

    def __init__(
        self, exact: _Double, cutoff: float, source: torch.Tensor, target: torch.Tensor
    ) -> None:
        self.exact = exact
        self._cutoff = cutoff
        self._distances = cutoff * (torch.arange(_CHECKED, dtype=torch.float64) + 0.5) / _CHECKED
        self._values, self._slopes = self._of(lambda d: exact.outputs(d, cutoff, source, target))

    def agrees(self, table: RadialTable) -> bool:
        """Tell whether a table is as exact as the network is in float32."""
        values, slopes = self._of(lambda d: _evaluate(table, d, self._cutoff))
        return bool(
            (values - self._values).abs().max() <= _TOLERANCE * self._values.abs().max()
            and (slopes - self._slopes).abs().max() <= _SLOPE_TOLERANCE * self._slopes.abs().max()
        )

    def _of(
        self, function: Callable[[torch.Tensor], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        below, above = function(self._distances - _STEP), function(self._distances + _STEP)
        return function(self._distances), (above - below) / (2 * _STEP)


def _evaluate(table: RadialTable, distances: torch.Tensor, cutoff: float) -> torch.Tensor:
    place = distances * (INTERVALS / cutoff)
    interval = place.long()
    t = (2 * (place - interval) - 1).unsqueeze(1)
    functions = (t ** torch.arange(_TERMS)).unsqueeze(1) @ table.coefficients[interval]
    return functions.squeeze(1) @ table.outputs
