"""Nonlinearities: those of scalars by name, and equivariant ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import nn
from torch.nn import functional

from adatom.core.errors import ConfigError, unknown_name
from adatom.nn.layout import CoefficientLayout
from adatom.nn.s2_grid import grid_matrices

#: Nonlinearities of scalars with two continuous derivatives, so that forces can be trained.
_SMOOTH: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "SiLU": nn.SiLU,
        "GELU": nn.GELU,
        "Mish": nn.Mish,
        "Softplus": nn.Softplus,
        "Tanh": nn.Tanh,
        "Sigmoid": nn.Sigmoid,
    }
)
#: Names of the same functions in other packages.
_SYNONYMS: Mapping[str, str] = MappingProxyType({"swish": "silu"})
#: Known, and not offered.
_WITH_KINKS = ("ReLU", "LeakyReLU", "ReLU6", "PReLU", "ELU", "CELU", "SELU", "Hardswish")


def activation(name: str) -> nn.Module:
    """Return a new module of the nonlinearity of that name.

    A table is looked up; nothing is imported from the name.

    Args:
        name: ``silu``, ``gelu``, ``mish``, ``softplus``, ``tanh`` or ``sigmoid``, in any case and
            with ``torch.nn.`` or ``nn.`` before it or not.

    Raises:
        ConfigError: If its slope is not smooth, so that forces or their derivatives would jump.
        UnknownNameError: If it is not in the table.
    """
    short = name.removeprefix("torch.").removeprefix("nn.").removeprefix("functional.").lower()
    short = _SYNONYMS.get(short, short)
    for known, make in _SMOOTH.items():
        if known.lower() == short:
            return make()
    choices = [f"torch.nn.{known}" for known in _SMOOTH]
    if short in [kinked.lower() for kinked in _WITH_KINKS]:
        raise ConfigError(
            f"The activation {name!r} has a kink, where forces or their derivatives jump",
            expected=f"one of: {', '.join(choices)}",
            fix="torch.nn.SiLU is the smooth one that is used most.",
        )
    raise unknown_name("activation", name, choices)


class GateActivation(nn.Module):
    """SiLU on degree 0; every other degree times the sigmoid of its own gate scalars.

    Args:
        degrees: ``[R]`` int64; degree of each row, the first of which is the only invariant.
        channels: H.
    """

    degrees: torch.Tensor

    def __init__(self, degrees: torch.Tensor, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.num_gates = int(degrees.max()) * channels
        self.register_buffer("degrees", degrees, persistent=False)

    def forward(self, features: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        """Apply the gates.

        Args:
            features: ``[E, R, H]``.
            gates: ``[E, lmax * H]`` before the sigmoid, degree 1 first.
        """
        scalars, higher = torch.split(features, [1, features.shape[1] - 1], dim=1)
        scalars = functional.silu(scalars)
        if not self.num_gates:
            return scalars
        # The number of degrees is spelled out: -1 is ambiguous without edges.
        shape = (gates.shape[0], self.num_gates // self.channels, self.channels)
        factors = torch.sigmoid(gates).view(shape)
        higher = higher * factors.index_select(1, self.degrees[1:] - 1)
        return torch.cat([scalars, higher], dim=1)


class OrderGateActivation(nn.Module):
    """The gates of :class:`GateActivation` on edge features kept per order (see ``so2.py``).

    Args:
        layout: Degrees and orders.
        channels: H.
    """

    def __init__(self, layout: CoefficientLayout, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.num_gates = layout.lmax * channels

    def forward(self, orders: Sequence[torch.Tensor], gates: torch.Tensor) -> list[torch.Tensor]:
        """Apply the gates.

        Args:
            orders: One tensor per order.
            gates: ``[E, lmax * H]`` before the sigmoid, degree 1 first.
        """
        factors = torch.sigmoid(gates)
        scalars, higher = torch.split(orders[0], [self.channels, self.num_gates], dim=1)
        out = [torch.cat([functional.silu(scalars), higher * factors], dim=1)]
        for m, order in enumerate(orders[1:], start=1):
            own = factors[:, (m - 1) * self.channels :]
            signs = order.view(order.shape[0], 2, own.shape[1])
            out.append((signs * own.unsqueeze(1)).flatten(1))
        return out


class SeparableS2Activation(nn.Module):
    """SiLU of own scalars on degree 0; all other rows through SiLU on a grid over the sphere.

    Args:
        layout: Degrees and orders.
        channels: H.
        resolution: Grid size, or None for the default.
    """

    def __init__(
        self, layout: CoefficientLayout, channels: int, resolution: int | None = None
    ) -> None:
        super().__init__()
        self.layout = layout
        self.resolution = resolution
        self.channels = channels
        self.num_gates = channels

    def forward(self, orders: Sequence[torch.Tensor], gates: torch.Tensor) -> list[torch.Tensor]:
        """Apply the activation.

        Args:
            orders: One tensor per order (see ``so2.py``).
            gates: ``[E, H]`` scalars that replace degree 0.
        """
        to_grid, from_grid = grid_matrices(self.layout, self.resolution, gates.dtype, gates.device)
        features = torch.cat(list(orders), dim=1).view(gates.shape[0], -1, self.channels)
        on_grid = functional.silu(torch.matmul(to_grid, features))
        back = torch.matmul(from_grid[1:], on_grid).flatten(1)
        out = torch.cat([functional.silu(gates), back], dim=1)
        return list(torch.split(out, [order.shape[1] for order in orders], dim=1))
