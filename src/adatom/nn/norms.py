"""Equivariant normalization of node features ``[N, (lmax + 1)^2, C]`` (l-major)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn

from adatom.core.errors import unknown_name

_EPS = 1e-5


class RMSNormSH(nn.Module):
    """Divide all degrees by one root mean square; every degree counts the same in it.

    Channels of degree 0 are centered first. Scale per degree and channel, bias on degree 0.

    Args:
        channels: C.
        lmax: Highest degree.
    """

    def __init__(self, channels: int, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        self.affine_weight = nn.Parameter(torch.ones(lmax + 1, channels))
        self.affine_bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the normalized features."""
        invariant, share, degree = _row_tables(self.lmax, features.dtype, features.device)
        mean = features[:, :1].mean(dim=2, keepdim=True)
        centered = torch.addcmul(features, mean, invariant, value=-1)
        square = centered.square().mean(dim=2) @ share
        scaled = centered * (square + _EPS).rsqrt()[:, None, None]
        weight = self.affine_weight.index_select(0, degree)
        return torch.addcmul(invariant * self.affine_bias, scaled, weight)


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def _row_tables(
    lmax: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ``[S, 1]`` 1 for degree 0, else 0; ``[S]`` 1 / ((2l + 1) (lmax + 1)); ``[S]`` l."""
    degree = torch.repeat_interleave(torch.arange(lmax + 1), torch.tensor(_sizes(lmax)))
    share = 1 / ((2 * degree + 1.0).double() * (lmax + 1))
    invariant = (degree == 0).to(dtype=dtype, device=device).unsqueeze(1)
    return invariant, share.to(dtype=dtype, device=device), degree.to(device)


class LayerNormSH(nn.Module):
    """Layer norm on degree 0, one joint root mean square for all higher degrees.

    Args:
        channels: C.
        lmax: Highest degree.
    """

    def __init__(self, channels: int, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        self.norm_l0 = nn.LayerNorm(channels, eps=_EPS)
        self.affine_weight = nn.Parameter(torch.ones(lmax, channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the normalized features."""
        scalars, *higher = torch.split(features, _sizes(self.lmax), dim=1)
        scalars = nn.functional.layer_norm(
            scalars, self.norm_l0.normalized_shape, self.norm_l0.weight, self.norm_l0.bias, _EPS
        )
        if not higher:
            return scalars
        square = torch.stack([x.square().mean(dim=(1, 2)) for x in higher]).mean(0)
        rest = _affine(higher, [square] * len(higher), self.affine_weight, None)
        return torch.cat([scalars, rest], dim=1)


class LayerNorm(nn.Module):
    """Divide each degree by its own root mean square.

    Channels of degree 0 are centered first. Scale per degree and channel, bias on degree 0.

    Args:
        channels: C.
        lmax: Highest degree.
    """

    def __init__(self, channels: int, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        self.affine_weight = nn.Parameter(torch.ones(lmax + 1, channels))
        self.affine_bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the normalized features."""
        degrees = _centered_degrees(features, self.lmax)
        squares = [x.square().mean(dim=(1, 2)) for x in degrees]
        return _affine(degrees, squares, self.affine_weight, self.affine_bias)


#: The choices of ``norm_type``.
NORMS: dict[str, type[RMSNormSH | LayerNormSH | LayerNorm]] = {
    "rms_norm_sh": RMSNormSH,
    "layer_norm_sh": LayerNormSH,
    "layer_norm": LayerNorm,
}


def build_norm(kind: str, channels: int, lmax: int) -> nn.Module:
    """Return the norm named ``kind``.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    if kind not in NORMS:
        raise unknown_name("norm_type", kind, NORMS)
    return NORMS[kind](channels, lmax)


def _sizes(lmax: int) -> list[int]:
    return [2 * degree + 1 for degree in range(lmax + 1)]


def _centered_degrees(features: torch.Tensor, lmax: int) -> list[torch.Tensor]:
    scalars, *higher = torch.split(features, _sizes(lmax), dim=1)
    return [scalars - scalars.mean(dim=2, keepdim=True), *higher]


def _affine(
    degrees: list[torch.Tensor],
    squares: list[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    scaled = [
        x * (square + _EPS).rsqrt()[:, None, None] * weight[i]
        for i, (x, square) in enumerate(zip(degrees, squares, strict=True))
    ]
    if bias is not None:
        scaled[0] = scaled[0] + bias
    return torch.cat(scaled, dim=1)
