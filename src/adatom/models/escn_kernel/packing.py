"""Weights in the form and order that the compiled kernel reads them.

Matrices ``[k, n]`` are packed into panels of columns, ``[panels, k, columns]`` with zeros at the
end, once as they are and once transposed. The order of the tensors is that of ``Reader`` in
``cpp/problem.h``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import nn

from adatom.models.escn_block import EscnBlock
from adatom.models.escn_kernel.radial_tables import RadialTable
from adatom.nn.experts import MixedLinear
from adatom.nn.feed_forward import SpectralFeedForward
from adatom.nn.norms import RMSNormSH
from adatom.nn.radial import RadialMLP
from adatom.nn.so3 import SO3Linear
from adatom.nn.wigner import _generators, _tables


def packed(matrix: torch.Tensor, panel: int) -> torch.Tensor:
    """Return ``[..., k, n]`` as ``[..., panels, k, panel]``."""
    *batch, k, n = matrix.shape
    panels = -(-n // panel)
    out = matrix.new_zeros(*batch, panels, k, panel)
    whole = n // panel
    if whole:
        parts = matrix[..., : whole * panel].unflatten(-1, (whole, panel))
        out[..., :whole, :, :] = parts.transpose(-3, -2)
    if whole < panels:
        out[..., whole, :, : n - whole * panel] = matrix[..., whole * panel :]
    return out


def both(matrix: torch.Tensor, panel: int) -> list[torch.Tensor]:
    """Return ``[k, n]`` packed, and its transpose packed."""
    return [packed(matrix, panel), packed(matrix.transpose(-2, -1), panel)]


def rotation_constants(lmax: int, dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """Yield the tables of the rotations."""
    cpu = torch.device("cpu")
    for table in _tables(lmax, dtype, cpu).values():
        yield table.coupling
        yield torch.cat([table.polar_scale, table.polar_scale.new_tensor([table.edge_scale])])
    yield _generators(lmax, dtype, cpu)


def radial_weights(net: RadialMLP, table: torch.Tensor, panel: int) -> Iterator[torch.Tensor]:
    """Yield the weights of a radial network.

    Args:
        net: The network.
        table: ``[T * T, Ce]`` the elements' part of the first layer; see :func:`element_table`.
        panel: Columns per panel.
    """
    layers = list(net.net)
    first, norm_1, _, second, norm_2, _, last = layers
    yield from both(cast("nn.Linear", first).weight[:, : net.num_basis].T, panel)
    yield table
    for norm, linear in ((norm_1, second), (norm_2, last)):
        yield cast("nn.LayerNorm", norm).weight
        yield cast("nn.LayerNorm", norm).bias
        yield from both(cast("nn.Linear", linear).weight.T, panel)
        yield cast("nn.Linear", linear).bias


def table_weights(tables: Sequence[RadialTable], panel: int) -> Iterator[torch.Tensor]:
    """Yield the tables of one radial network."""
    for table in tables:
        yield table.coefficients
        yield from both(table.outputs, panel)


def element_table(
    net: RadialMLP, source_features: torch.Tensor, target_features: torch.Tensor
) -> torch.Tensor:
    """Return the first layer's part from the elements, ``[T * T, Ce]`` (target, then source)."""
    first = cast("nn.Linear", net.net[0])
    width = net.edge_channels
    _, source, target = first.weight.split([net.num_basis, width, width], dim=1)
    by_source = torch.addmm(first.bias, source_features, source.T)
    by_target = target_features @ target.T
    table: torch.Tensor = (by_target.unsqueeze(1) + by_source).flatten(0, 1)
    return table


def convolution_weights(
    block: EscnBlock, coefficients: torch.Tensor | None, panel: int
) -> list[list[torch.Tensor]]:
    """Return the packed weights of the convolutions of one layer, for each group.

    Args:
        block: The layer.
        coefficients: ``[G, X]``, or None without experts (one group).
        panel: Columns per panel.
    """
    first, *others = block.edge_wise.so2_conv_1.merged(coefficients)
    matrices = [first]
    for stacked in others:
        a, b = stacked.chunk(2, dim=1)
        matrices += [a, -(a + b), b - a]
    matrices += block.edge_wise.so2_conv_2.degree_matrices_of(
        block.edge_wise.so2_conv_2.merged(coefficients)
    )
    pairs = [both(matrix.transpose(1, 2), panel) for matrix in matrices]
    # One tensor per group, so that the weights of one can be forgotten without the others.
    return [
        [part[group].clone() if len(first) > 1 else part[group] for pair in pairs for part in pair]
        for group in range(len(first))
    ]


def norm_weights(norm: nn.Module) -> list[torch.Tensor]:
    """Return scale and bias."""
    own = cast("RMSNormSH", norm)
    return [own.affine_weight, own.affine_bias]


def bias_of(layer: MixedLinear) -> torch.Tensor:
    """Return the bias of a layer that has one."""
    return cast("torch.Tensor", layer.bias)


def feed_forward_weights(block: EscnBlock, panel: int) -> Iterator[torch.Tensor]:
    """Yield the weights of the network on each atom."""
    network = cast("SpectralFeedForward", block.atom_wise)
    yield from norm_weights(block.norm_2)
    if network.scalar_mlp is not None:
        gates = cast("nn.Linear", network.scalar_mlp[0])
        yield from both(gates.weight.T, panel)
        yield gates.bias
    for linear in (network.so3_linear_1, network.so3_linear_2):
        yield from _degree_linear(linear, panel)


def _degree_linear(linear: SO3Linear, panel: int) -> Iterator[torch.Tensor]:
    for weight in linear.weight:
        yield from both(weight.T, panel)
    yield linear.bias
