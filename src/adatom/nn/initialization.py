"""Initial weights that keep the variance of features, for training from scratch.

Every linear map gets independent normal weights with variance ``gain^2 / fan_in`` and zero bias, so
that unit-variance inputs give outputs of variance ``gain^2``.
"""

from __future__ import annotations

import math

import torch
from torch import nn

#: Gain of a linear map whose input is SiLU of a unit normal: 1 / sqrt(E[silu(x)^2]).
AFTER_SILU = 1.676


def fill_normal(weight: torch.Tensor, fan_in: float, gain: float = 1.0) -> None:
    """Fill ``weight`` in place with normal numbers of variance ``gain^2 / fan_in``.

    Args:
        weight: Any shape; may be empty.
        fan_in: Number of unit-variance inputs that are summed.
        gain: Standard deviation of the output.
    """
    with torch.no_grad():
        weight.normal_(0.0, gain / math.sqrt(max(fan_in, 1.0)))


def linear(
    in_features: int, out_features: int, *, bias: bool = True, gain: float = 1.0
) -> nn.Linear:
    """Return a linear layer with the initial weights of this module.

    Args:
        in_features: Size of the input.
        out_features: Size of the output.
        bias: Whether there is a bias (zero at first).
        gain: Standard deviation of the output for unit-variance input.
    """
    layer = nn.Linear(in_features, out_features, bias=bias)
    fill_normal(layer.weight, in_features, gain)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def glorot_orthogonal(
    in_features: int, out_features: int, *, bias: bool = True, scale: float = 2.0
) -> nn.Linear:
    """Return a linear layer whose weights are orthogonal, of the variance of Glorot and Bengio.

    Args:
        in_features: Size of the input.
        out_features: Size of the output.
        bias: Whether there is a bias (zero at first).
        scale: The mean square of the weights is ``scale / (in_features + out_features)``.
    """
    layer = nn.Linear(in_features, out_features, bias=bias)
    nn.init.orthogonal_(layer.weight)
    with torch.no_grad():
        wanted = scale / (in_features + out_features)
        layer.weight.mul_((wanted / layer.weight.square().mean()).sqrt())
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
