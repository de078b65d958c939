"""Spherical harmonics and grids over the sphere."""

from __future__ import annotations

import math

import pytest
import torch

from adatom.nn.harmonics import spherical_harmonics
from adatom.nn.layout import CoefficientLayout
from adatom.nn.s2_grid import grid_matrices
from adatom.nn.sphere_quadrature import sphere_grid


def test_low_degrees_have_the_documented_form():
    x, y, z = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.7]), dim=0).double()
    expected = [
        torch.ones_like(x), x, y, z,
        math.sqrt(3) * x * z, math.sqrt(3) * x * y, y**2 - (x**2 + z**2) / 2,
        math.sqrt(3) * y * z, math.sqrt(3) / 2 * (z**2 - x**2),
    ]  # fmt: skip
    found = spherical_harmonics(torch.stack([x, y, z]), 2)
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-7, rtol=0)


def test_integral_normalization_is_orthonormal_under_the_quadrature():
    points, weights = sphere_grid(14, 14)
    values = spherical_harmonics(points.flatten(0, 1), 6, normalization="integral")
    gram = values.T @ (values * weights.flatten()[:, None])
    torch.testing.assert_close(gram, torch.eye(49, dtype=torch.float64), atol=1e-12, rtol=0)


def test_norm_and_component_normalizations():
    point = torch.nn.functional.normalize(torch.randn(3, dtype=torch.float64), dim=0)
    for normalization, square in (("norm", lambda _: 1.0), ("component", lambda d: 2.0 * d + 1)):
        values = spherical_harmonics(point, 5, normalization=normalization)
        for degree in range(6):
            own = values[degree**2 : (degree + 1) ** 2]
            assert float(own.square().sum()) == pytest.approx(square(degree))


@pytest.mark.parametrize("lmax", [1, 2, 4, 6])
@pytest.mark.parametrize("resolution", [None, 18])
def test_grid_round_trip_returns_the_coefficients(lmax, resolution):
    layout = CoefficientLayout(lmax, lmax)
    to_grid, from_grid = grid_matrices(layout, resolution, torch.float64, torch.device("cpu"))
    identity = torch.eye(layout.node_size, dtype=torch.float64)
    torch.testing.assert_close(from_grid @ to_grid, identity, atol=1e-12, rtol=0)


def test_default_grid_sizes():
    to_grid, _ = grid_matrices(CoefficientLayout(2, 2), None, torch.float64, torch.device("cpu"))
    assert to_grid.shape == (6 * 7, 9)
    to_grid, _ = grid_matrices(CoefficientLayout(4, 2), None, torch.float64, torch.device("cpu"))
    assert to_grid.shape == (10 * 5, 19)
