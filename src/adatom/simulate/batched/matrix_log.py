"""Logarithms and exponentials of small matrices, many at once and to the last digits."""

from __future__ import annotations

import torch

#: Square roots that are taken first, steps of Newton's iteration for each, and terms of the series.
_ROOTS, _STEPS, _TERMS = 4, 12, 9
#: Halvings before the series of the exponential, and its terms.
_HALVINGS, _POWERS = 5, 13


def matrix_log(matrices: torch.Tensor) -> torch.Tensor:
    """Return the principal logarithm.

    Repeated square roots bring a matrix near one, where the series of the inverse hyperbolic
    tangent converges fast (Higham, Functions of Matrices, 2008, chapters 6 and 11; the square root
    is the product form of Denman and Beavers, its equation 6.29).

    Args:
        matrices: ``[B, 3, 3]`` float64 without eigenvalues on the negative real axis, such as
            deformations of a cell; others give NaN or infinity, and harm no neighbor.
    """
    one = torch.eye(3, dtype=matrices.dtype, device=matrices.device)
    root = matrices
    for _ in range(_ROOTS):
        root = _square_root(root, one)
    z = (root - one) @ torch.linalg.inv_ex(root + one).inverse
    square = z @ z
    total = torch.zeros_like(z)
    for k in range(_TERMS - 1, -1, -1):
        total = one / (2 * k + 1) + square @ total
    log: torch.Tensor = 2.0 * 2**_ROOTS * (z @ total)
    return log


def matrix_exp(matrices: torch.Tensor) -> torch.Tensor:
    """Return the exponential.

    That of torch depends on what else is in the batch, by up to 1e-10. This one is the series
    after halvings, then squared again (Higham, chapter 10).

    Args:
        matrices: ``[B, n, n]`` float64, of norm below 10, such as strains.
    """
    one = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    small = matrices / 2**_HALVINGS
    power: torch.Tensor = one + small / _POWERS
    for k in range(_POWERS - 1, 0, -1):
        power = one + small @ power / k
    for _ in range(_HALVINGS):
        power = power @ power
    return power


def _square_root(matrices: torch.Tensor, one: torch.Tensor) -> torch.Tensor:
    product, root = matrices, matrices
    for _ in range(_STEPS):
        inverse = torch.linalg.inv_ex(product).inverse
        root = 0.5 * root @ (one + inverse)
        product = 0.5 * (one + 0.5 * (product + inverse))
    return root
