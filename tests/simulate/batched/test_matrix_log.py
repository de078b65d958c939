"""The logarithm of deformations against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from adatom.simulate.batched.matrix_log import matrix_log


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
