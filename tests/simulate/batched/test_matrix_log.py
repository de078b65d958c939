"""Logarithms and exponentials of deformations against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from adatom.simulate.batched.matrix_log import matrix_exp, matrix_log


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-3, 0.1, 0.7])
def test_logarithm_is_that_of_scipy(size):
    generator = np.random.default_rng(3)
    matrices = [scipy.linalg.expm(size * generator.normal(size=(3, 3))) for _ in range(4)]
    # A shear cannot be diagonalized.
    matrices.append(np.eye(3) + size * np.eye(3, k=1))
    found = matrix_log(torch.tensor(np.array(matrices)))
    expected = np.array([scipy.linalg.logm(matrix) for matrix in matrices])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_a_matrix_without_logarithm_harms_no_other():
    matrices = torch.stack([torch.zeros(3, 3), torch.eye(3)]).double() * 1.1
    np.testing.assert_allclose(matrix_log(matrices)[1], np.log(1.1) * np.eye(3), rtol=0, atol=1e-14)


@pytest.mark.parametrize("norm", [0.0, 1e-6, 0.01, 0.02, 0.3, 2.0])
def test_exponential_is_that_of_scipy_alone_or_in_a_batch(norm):
    matrices = np.random.default_rng(4).normal(size=(3, 6, 6))
    matrices *= norm / np.abs(matrices).sum(1).max(1)[:, None, None]
    expected = np.array([scipy.linalg.expm(matrix) for matrix in matrices])
    found = matrix_exp(torch.tensor(matrices))
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-14)
    np.testing.assert_allclose(
        matrix_exp(torch.tensor(matrices[:1])), expected[:1], rtol=0, atol=3e-14
    )
