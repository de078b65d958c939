"""The radial network with frozen weights and its adjoint."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import nn

from adatom.nn.geometry import ElementTypes
from adatom.nn.radial import RadialMLP

_aten = torch.ops.aten


class RadialStates(NamedTuple):
    """What the adjoint needs of the hidden layers: inputs and statistics of both norms."""

    inputs: tuple[torch.Tensor, torch.Tensor]
    means: tuple[torch.Tensor, torch.Tensor]
    scales: tuple[torch.Tensor, torch.Tensor]
    normed: tuple[torch.Tensor, torch.Tensor]


class FrozenRadial:
    """A :class:`adatom.nn.radial.RadialMLP` for the element types of one batch.

    Args:
        network: The weights.
        types: The element types.
        last: Weight and bias of the last layer with its outputs in another order, or None.
    """

    def __init__(
        self,
        network: RadialMLP,
        types: ElementTypes,
        last: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> None:
        first, norm_1, _, second, norm_2, _, _ = network.net
        self._norms = (cast("nn.LayerNorm", norm_1), cast("nn.LayerNorm", norm_2))
        self._second = cast("nn.Linear", second)
        table = network.element_table(types.source_features, types.target_features)
        self._table = table.detach()
        self._first = cast("nn.Linear", first).weight[:, : network.num_basis]
        stored = network.final
        self.weight, self.bias = last or (stored.weight, stored.bias)

    def hidden(self, basis: torch.Tensor, pairs: torch.Tensor) -> tuple[torch.Tensor, RadialStates]:
        """Return all but the last layer ``[n, Ce]``, and what the adjoint needs of it.

        Args:
            basis: ``[n, K]`` expanded distances.
            pairs: ``[n]`` int64; see :class:`adatom.nn.radial.RadialInputs`.
        """
        x = torch.addmm(self._table.index_select(0, pairs), basis, self._first.T)
        y, mean, scale = self._norm(0, x)
        second = torch.addmm(self._second.bias, nn.functional.silu(y), self._second.weight.T)
        z, mean_2, scale_2 = self._norm(1, second)
        states = RadialStates((x, second), (mean, mean_2), (scale, scale_2), (y, z))
        return nn.functional.silu(z), states

    def numbers_per_edge(self) -> int:
        """Return how many numbers :class:`RadialStates` holds per edge."""
        return 4 * self.weight.shape[1] + 4

    def hidden_adjoint(self, gradient: torch.Tensor, states: RadialStates) -> torch.Tensor:
        """Return the gradient of the basis ``[n, K]`` from that of the hidden layer ``[n, Ce]``."""
        for i, weight in ((1, self._second.weight), (0, self._first)):
            norm = self._norms[i]
            gradient = _aten.silu_backward(gradient, states.normed[i])
            gradient, _, _ = _aten.native_layer_norm_backward(
                gradient,
                states.inputs[i],
                norm.normalized_shape,
                states.means[i],
                states.scales[i],
                norm.weight,
                norm.bias,
                [True, False, False],
            )
            gradient = gradient @ weight
        return gradient

    def _norm(self, i: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        norm = self._norms[i]
        return torch.native_layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
