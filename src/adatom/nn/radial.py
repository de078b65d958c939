"""Radial basis, cutoff envelope and the network that turns distances into edge weights."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, cast

import torch
from torch import nn

from adatom.nn.initialization import AFTER_SILU, fill_normal, linear

#: Width of each Gaussian in units of the spacing of the centers.
_RELATIVE_WIDTH = 2.0
#: Sum over k of g_k^2 for centers at spacing D and width 2 D: sqrt(pi) * 2.
BASIS_SQUARE = 3.545


def gaussian_basis(distances: torch.Tensor, cutoff: float, size: int) -> torch.Tensor:
    """Expand distances in Gaussians of centers ``linspace(0, cutoff, size)``, width two spacings.

    Args:
        distances: ``[E]`` in angstrom.
        cutoff: Position of the last center, in angstrom.
        size: Number of Gaussians K, at least 2.

    Returns:
        ``[E, K]`` values ``exp(-(d - mu_k)^2 / (2 w^2))``.
    """
    centers = _centers(cutoff, size, distances.dtype, distances.device)
    width = _RELATIVE_WIDTH * cutoff / (size - 1)
    scaled = (distances.unsqueeze(1) - centers) * (0.5**0.5 / width)
    return torch.exp(-scaled.square())


def gaussian_slopes(distances: torch.Tensor, basis: torch.Tensor, cutoff: float) -> torch.Tensor:
    """Return the derivatives ``[E, K]`` of :func:`gaussian_basis`, given its values."""
    size = basis.shape[1]
    width = _RELATIVE_WIDTH * cutoff / (size - 1)
    centers = _centers(cutoff, size, distances.dtype, distances.device)
    return (centers - distances.unsqueeze(1)).mul_(1 / width**2).mul_(basis)


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def _centers(cutoff: float, size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.linspace(0.0, cutoff, size, dtype=torch.float64).to(dtype=dtype, device=device)


def polynomial_envelope(distances: torch.Tensor, cutoff: float, exponent: int = 5) -> torch.Tensor:
    """Return a factor that is 1 at zero and vanishes with two derivatives at the cutoff.

    ``1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2)`` with x = d / cutoff (Gasteiger,
    Gross, Guennemann, ICLR 2020, eq. 8); exactly zero from the cutoff on.

    Args:
        distances: ``[E]`` in angstrom.
        cutoff: In angstrom.
        exponent: p.
    """
    p = exponent
    x = (distances / cutoff).clamp(max=1.0)
    inner = -(p + 1) * (p + 2) / 2 + x * (p * (p + 2) - x * (p * (p + 1) / 2))
    value = 1 + x**p * inner
    return torch.where(distances < cutoff, value, torch.zeros_like(value))


def envelope_slope(distances: torch.Tensor, cutoff: float, exponent: int = 5) -> torch.Tensor:
    """Return the derivative ``[E]`` of :func:`polynomial_envelope`, per angstrom."""
    p = exponent
    x = (distances / cutoff).clamp(max=1.0)
    return (-p * (p + 1) * (p + 2) / (2 * cutoff)) * x ** (p - 1) * (1 - x).square()


class RadialInputs(NamedTuple):
    """What the radial networks of one layer see of the edges.

    Attributes:
        basis: ``[E, K]`` expanded distances.
        pairs: ``[E]`` int64; ``target_type * T + source_type`` with T element types in the batch.
        source_features: ``[T, Ce]`` embedding of each element type as a source.
        target_features: ``[T, Ce]`` embedding of each element type as a target.
    """

    basis: torch.Tensor
    pairs: torch.Tensor
    source_features: torch.Tensor
    target_features: torch.Tensor


class RadialMLP(nn.Module):
    """Three linear layers on (basis, source element, target element) of each edge.

    The first layer is applied to its three parts separately: the element parts are a table over
    pairs of element types, so that no ``[E, K + 2 Ce]`` tensor is made.

    Args:
        num_basis: K.
        edge_channels: Ce, width of the element embeddings and of the hidden layers.
        out_features: Size of the output.
    """

    def __init__(self, num_basis: int, edge_channels: int, out_features: int) -> None:
        super().__init__()
        self.num_basis = num_basis
        self.edge_channels = edge_channels
        first = linear(num_basis + 2 * edge_channels, edge_channels)
        # Distance and elements start with equal weight, whatever their numbers of inputs.
        fill_normal(first.weight[:, :num_basis], 2 * BASIS_SQUARE)
        fill_normal(first.weight[:, num_basis:], 4 * edge_channels)
        self.net = nn.Sequential(
            first,
            nn.LayerNorm(edge_channels),
            nn.SiLU(),
            linear(edge_channels, edge_channels, gain=AFTER_SILU),
            nn.LayerNorm(edge_channels),
            nn.SiLU(),
            linear(edge_channels, out_features, gain=AFTER_SILU),
        )

    def forward(self, inputs: RadialInputs, order: torch.Tensor | None = None) -> torch.Tensor:
        """Compute edge weights.

        Args:
            inputs: Distances and elements of the edges.
            order: See :meth:`last`.

        Returns:
            ``[E, out_features]``.
        """
        return self.last(self.hidden(inputs), order)

    def hidden(self, inputs: RadialInputs) -> torch.Tensor:
        """Return all but the last layer, ``[E, Ce]``."""
        basis = cast("nn.Linear", self.net[0]).weight[:, : self.num_basis]
        table = self.element_table(inputs.source_features, inputs.target_features)
        hidden = torch.addmm(table.index_select(0, inputs.pairs), inputs.basis, basis.T)
        for layer in list(self.net)[1:-1]:
            hidden = layer(hidden)
        return hidden

    def element_table(
        self, source_features: torch.Tensor, target_features: torch.Tensor
    ) -> torch.Tensor:
        """Return what the first layer adds for each pair of element types, ``[T * T, Ce]``."""
        first = cast("nn.Linear", self.net[0])
        channels = self.edge_channels
        _, source, target = first.weight.split([self.num_basis, channels, channels], dim=1)
        by_source = torch.addmm(first.bias, source_features, source.T)
        by_target = target_features @ target.T
        table: torch.Tensor = (by_target.unsqueeze(1) + by_source).flatten(0, 1)
        return table

    @property
    def final(self) -> nn.Linear:
        """The last layer."""
        return cast("nn.Linear", self.net[-1])

    def last(self, hidden: torch.Tensor, order: torch.Tensor | None = None) -> torch.Tensor:
        """Apply the last layer.

        Args:
            hidden: ``[E, Ce]``.
            order: ``[out_features]`` int64; which output comes where, or None for as stored.

        Returns:
            ``[E, out_features]``.
        """
        layer = self.final
        if order is None:
            return nn.functional.linear(hidden, layer.weight, layer.bias)
        weight, bias = layer.weight.index_select(0, order), layer.bias.index_select(0, order)
        return nn.functional.linear(hidden, weight, bias)
