"""Spherical Bessel functions, their roots and the radial basis, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import spherical_jn

from adatom.nn.spherical_bessel import bessel_roots, spherical_bessel, spherical_bessel_basis

SIZES = [(7, 6), (1, 1), (12, 15)]


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 6, 11])
def test_values_are_those_of_scipy_down_to_zero(degree):
    x = np.concatenate([[0.0], np.logspace(-9, 0, 50), np.linspace(1, 90, 1000)])
    np.testing.assert_allclose(
        spherical_bessel(degree, x), spherical_jn(degree, x), rtol=0, atol=2e-14
    )


def test_roots_are_those_of_scipy():
    found = bessel_roots(6, 6)
    for degree, roots in enumerate(found):
        grid = np.linspace(0.5, 29.0, 2000)
        signs = np.sign(spherical_jn(degree, grid))
        expected = [
            brentq(
                lambda x, degree=degree: spherical_jn(degree, x), grid[i], grid[i + 1], xtol=1e-14
            )
            for i in np.flatnonzero(signs[1:] != signs[:-1])
        ]
        np.testing.assert_allclose(roots, expected[:6], rtol=0, atol=1e-10)


def basis_of_scipy(
    distances: np.ndarray, num_spherical: int, num_radial: int, derivative: int = 0
) -> np.ndarray:
    """Return the basis or a derivative of it, the second from Bessel's equation."""
    rows = []
    for degree, roots in enumerate(bessel_roots(num_spherical - 1, num_radial)):
        scale = np.sqrt(2) / np.abs(spherical_jn(degree + 1, roots))
        x = distances[:, None] * roots
        value, slope = spherical_jn(degree, x), spherical_jn(degree, x, derivative=True)
        if derivative == 2:
            value = -2 / x * slope - (1 - degree * (degree + 1) / x**2) * value
        rows.append(scale * roots**derivative * (slope if derivative == 1 else value))
    return np.stack(rows)


@pytest.mark.parametrize(("num_spherical", "num_radial"), SIZES)
def test_basis_is_that_of_scipy(num_spherical, num_radial):
    distances = torch.linspace(0, 1, 501, dtype=torch.float64)
    expected = torch.from_numpy(basis_of_scipy(distances.numpy(), num_spherical, num_radial))
    found = spherical_bessel_basis(distances, num_spherical, num_radial)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    single = spherical_bessel_basis(distances.float(), num_spherical, num_radial)
    assert single.dtype == torch.float32
    scale = float(expected.abs().max())
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize(("num_spherical", "num_radial"), SIZES)
def test_functions_of_one_degree_are_orthonormal_in_the_sphere(num_spherical, num_radial):
    nodes, weights = np.polynomial.legendre.leggauss(80)
    distances = torch.from_numpy(0.5 * (nodes + 1))
    measure = torch.from_numpy(0.5 * weights) * distances**2
    basis = spherical_bessel_basis(distances, num_spherical, num_radial)
    overlaps = basis.mT @ (basis * measure.unsqueeze(1))
    identity = torch.eye(num_radial, dtype=torch.float64).expand_as(overlaps)
    torch.testing.assert_close(overlaps, identity, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_first_and_second_derivatives_down_to_the_smallest_distances(dtype, accuracy):
    distances = torch.cat([torch.logspace(-7, -2, 20), torch.linspace(0.01, 0.99, 99)]).to(dtype)
    distances.requires_grad_()
    basis = spherical_bessel_basis(distances, 7, 6)
    checked = distances.detach().double().numpy()[20:]
    for degree in range(7):
        (slope,) = torch.autograd.grad(
            basis[degree].sum(), distances, create_graph=True, retain_graph=True
        )
        (curvature,) = torch.autograd.grad(slope.sum(), distances, retain_graph=True)
        for order, found in ((1, slope.detach()), (2, curvature)):
            assert bool(torch.isfinite(found).all())
            expected = basis_of_scipy(checked, 7, 6, derivative=order)[degree].sum(1)
            error = np.abs(found.double().numpy()[20:] - expected).max()
            assert error < accuracy * np.abs(expected).max()


def test_beyond_the_sphere_nothing_grows():
    assert float(spherical_bessel_basis(torch.tensor([1.0, 1.5, 100.0]), 7, 6).abs().max()) < 1e-4
