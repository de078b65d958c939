"""The SOAP power spectrum against a quadrature of the density, and its derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from neighborhoods import (
    check_slopes,
    check_symmetry,
    check_twice_differentiable,
    cluster,
    crystal,
    evaluate,
)
from scipy.linalg import inv, sqrtm
from scipy.special import ive, sph_harm_y

from adatom.core.errors import ConfigError, UnknownNameError
from adatom.nn.descriptors.soap import SOAP
from adatom.nn.descriptors.soap_radial import scaled_bessel

CUTOFFS = {"Si-Si": 4.0, "C-Si": 3.6, "C-C": 3.1}
CUTOFF, N_MAX, L_MAX, ETA = 4.0, 3, 3, 0.8


def make(**changes: object) -> SOAP:
    arguments = {"species": ["Si", "C"], "cutoffs": CUTOFFS, "n_max": N_MAX, "l_max": L_MAX}
    return SOAP(**(arguments | {"eta": ETA} | changes)).double()


def basis(r: np.ndarray) -> np.ndarray:
    """Orthonormalize by the analytic overlap of the powers, ``[n, r]``."""
    i, j = np.meshgrid(np.arange(1, N_MAX + 1), np.arange(1, N_MAX + 1))
    k = 5 + i + j
    overlap = 2 * CUTOFF ** (k + 2.0) / (k * (k + 1) * (k + 2))
    return np.real(sqrtm(inv(overlap))) @ (CUTOFF - r) ** np.arange(3, N_MAX + 3)[:, None]


def coefficients(vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Integrate the density times basis functions over the sphere, ``[n, lm]`` (complex)."""
    nodes, w = np.polynomial.legendre.leggauss(60)
    r, wr = CUTOFF / 2 * (nodes + 1), CUTOFF / 2 * w
    cosine, wt = np.polynomial.legendre.leggauss(40)
    phi = 2 * np.pi * np.arange(80) / 80
    r3, c3, p3 = np.meshgrid(r, cosine, phi, indexing="ij")
    s3 = np.sqrt(1 - c3**2)
    points = np.stack([r3 * s3 * np.cos(p3), r3 * s3 * np.sin(p3), r3 * c3], axis=-1)
    density = sum(
        weight * np.exp(-ETA * ((points - vector) ** 2).sum(-1))
        for vector, weight in zip(vectors, weights, strict=True)
    )
    measure = wr[:, None, None] * r3**2 * wt[None, :, None] * (2 * np.pi / 80)
    weighted, theta = density * measure, np.arccos(c3)
    columns = [
        np.einsum("na,abc->n", basis(r), weighted * np.conj(sph_harm_y(degree, m, theta, p3)))
        for degree in range(L_MAX + 1)
        for m in range(-degree, degree + 1)
    ]
    return np.stack(columns, axis=1)


def reference(atoms: Atoms) -> np.ndarray:
    """Return the power spectrum of the first atom."""
    cutoff = {frozenset(name.split("-")): rc for name, rc in CUTOFFS.items()}
    found = []
    for symbol in ("Si", "C"):
        others = [k for k in range(1, len(atoms)) if atoms[k].symbol == symbol]
        vectors = atoms.positions[others] - atoms.positions[0]
        rc = cutoff[frozenset((atoms[0].symbol, symbol))]
        distances = np.linalg.norm(vectors, axis=1)
        weights = np.where(distances < rc, 0.5 * (np.cos(np.pi * distances / rc) + 1), 0.0)
        found.append(coefficients(vectors, weights))
    row = []
    for z in range(2):
        for other in range(z, 2):
            for n in range(N_MAX):
                for m in range(n, N_MAX):
                    for degree in range(L_MAX + 1):
                        lm = slice(degree**2, (degree + 1) ** 2)
                        product = (found[z][n, lm] * np.conj(found[other][m, lm])).sum().real
                        # The quadrature has the factor 4 pi of each coefficient.
                        scale = 4 * math.pi**3 * math.sqrt(8 / (2 * degree + 1))
                        row.append(scale * product / (4 * math.pi) ** 2)
    return np.array(row)


def test_values_are_those_of_a_quadrature_of_the_density():
    atoms = cluster(seed=5, count=6)
    found, expected = evaluate(make(), atoms)[0].numpy(), reference(atoms)
    assert len(expected) == make().width
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_bessel_functions_are_those_of_scipy():
    x = np.concatenate([[1e-10, 1e-3], np.linspace(0.1, 700, 300)])
    found = scaled_bessel(9, x)
    for degree in range(10):
        expected = np.sqrt(np.pi / (2 * x)) * ive(degree + 0.5, x)
        np.testing.assert_allclose(found[degree], expected, rtol=1e-12, atol=1e-300)
    assert scaled_bessel(3, np.zeros(1))[:, 0].tolist() == [1, 0, 0, 0]


def test_slopes_are_those_of_finite_differences():
    check_slopes(make(), cluster(seed=1, count=6))
    check_slopes(make(n_max=5, l_max=2, eta=2.0), crystal(seed=1))


def test_values_stay_when_atoms_are_turned_mirrored_or_renumbered():
    check_symmetry(make(n_max=4, l_max=5))


def test_second_derivatives_are_right():
    check_twice_differentiable(make(n_max=2, l_max=2), cluster(seed=2, count=6)[:4])


def test_an_atom_comes_and_goes_smoothly_only_with_a_cutoff_function():
    atoms = Atoms("Si3", [[0, 0, 0], [0, 0, 2.3], [4.0 - 1e-6, 0, 0]])
    without = evaluate(make(), atoms[:2])[0]
    assert (evaluate(make(), atoms)[0] - without).abs().max() < 1e-8 * without.abs().max()
    jump = evaluate(make(smooth=False), atoms)[0] - evaluate(make(smooth=False), atoms[:2])[0]
    assert jump.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_max": 0}, "n_max from 1 to 12"),
        ({"l_max": 13}, "l_max from 0 to 12"),
        ({"eta": -1.0}, "a positive eta"),
        ({"eta": 1e4}, "too narrow"),
        ({"radial_basis": "gto"}, "Unknown radial basis 'gto'"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        make(**changes)


def test_constants_do_not_lose_digits():
    descriptor = make()
    before = descriptor.radial.clone()
    assert torch.equal(descriptor.float().double().radial, before)
