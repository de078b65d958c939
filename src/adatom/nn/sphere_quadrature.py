"""Product quadrature on the sphere: interpolatory in the polar angle, uniform in the azimuth."""

from __future__ import annotations

import math

import torch


def sphere_grid(num_polar: int, num_azimuth: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points and weights of an equiangular grid around the y axis.

    Polar angles are ``(i + 1/2) pi / num_polar`` with Fejer's first-rule weights (Waldvogel, BIT
    Numer. Math. 46, 195, 2006), azimuths ``2 pi k / num_azimuth`` counted from z towards x. The
    rule integrates exactly every polynomial of degree below ``min(num_polar, num_azimuth)``.

    Args:
        num_polar: Number of polar angles.
        num_azimuth: Number of azimuths.

    Returns:
        Unit vectors ``[num_polar, num_azimuth, 3]`` and weights ``[num_polar, num_azimuth]`` that
        sum to 4 pi, both float64.
    """
    polar = (torch.arange(num_polar, dtype=torch.float64) + 0.5) * (math.pi / num_polar)
    azimuth = torch.arange(num_azimuth, dtype=torch.float64) * (2 * math.pi / num_azimuth)
    k = torch.arange(1, num_polar // 2 + 1, dtype=torch.float64)
    series = torch.cos(2 * polar[:, None] * k) / (4 * k**2 - 1)
    weights = (2 / num_polar) * (1 - 2 * series.sum(1))
    points = torch.stack(
        [
            torch.sin(polar)[:, None] * torch.sin(azimuth),
            torch.cos(polar)[:, None].expand(-1, num_azimuth),
            torch.sin(polar)[:, None] * torch.cos(azimuth),
        ],
        dim=-1,
    )
    area = weights[:, None].expand(-1, num_azimuth) * (2 * math.pi / num_azimuth)
    return points, area
