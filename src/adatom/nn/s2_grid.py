"""Values of spherical coefficients on a grid over the sphere, and back.

The grid has ``2 (lmax + 1)`` polar angles and, as in the published models, ``2 (mmax + 1) + 1``
azimuths if ``lmax == mmax``, else ``2 mmax + 1``. Harmonics are orthonormal over the sphere
("integral"), and the quadrature is exact for them, so a round trip returns the coefficients.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from adatom.nn.harmonics import spherical_harmonics
from adatom.nn.layout import CoefficientLayout
from adatom.nn.sphere_quadrature import sphere_grid


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def grid_matrices(
    layout: CoefficientLayout,
    resolution: int | None,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the matrices from coefficients to grid and back.

    If ``mmax < lmax``, rows of degree ``l > mmax`` are multiplied by
    ``sqrt((2l + 1) / (2 mmax + 1))`` in both directions, which makes up for the orders left out.

    Args:
        layout: Degrees and orders; rows are those of the edges (m-major).
        resolution: Number of polar angles and of azimuths, instead of the default ones.
        dtype: Of the result.
        device: Of the result.

    Returns:
        ``to_grid [G, R]`` and ``from_grid [R, G]``.
    """
    lmax, mmax = layout.lmax, layout.mmax
    azimuths = 2 * (mmax + 1) + 1 if lmax == mmax else 2 * mmax + 1
    points, weights = sphere_grid(resolution or 2 * (lmax + 1), resolution or azimuths)
    values = spherical_harmonics(points.flatten(0, 1), lmax, normalization="integral")
    values = values[:, layout.edge_rows]
    degrees = layout.edge_degrees.double()
    rescale = torch.where(degrees > mmax, ((2 * degrees + 1) / (2 * mmax + 1)).sqrt(), 1.0)
    to_grid = values * rescale
    from_grid = (values * weights.flatten()[:, None] * rescale).T.contiguous()
    return to_grid.to(dtype=dtype, device=device), from_grid.to(dtype=dtype, device=device)
