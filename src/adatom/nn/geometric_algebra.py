"""The geometric algebra of three-dimensional space, Cl(3,0).

A multivector has eight components in the order ``1, e1, e2, e3, e12, e13, e23, e123`` with
``e_i e_i = 1`` and ``e_i e_j = -e_j e_i``. Grade 0 is a scalar, grade 1 a vector, grade 2 an
oriented area (bivector), grade 3 an oriented volume (trivector). A rotation acts on each grade
without mixing them, and the point reflection ``r -> -r`` multiplies grade k by ``(-1)^k``; both
commute with the product. (Spellings, "Geometric algebra attention networks for small point
clouds", arXiv 2110.02393, section 2.)
"""

from __future__ import annotations

from functools import lru_cache

import torch

#: Components of a multivector.
SIZE = 8
#: Components of each grade.
GRADES = (slice(0, 1), slice(1, 4), slice(4, 7), slice(7, 8))
#: Where a guarded norm turns from a parabola to a straight line.
GUARD = 0.1
#: Which unit vectors (bit k for e_{k+1}) each basis element is the product of.
_FACTORS = (0b000, 0b001, 0b010, 0b100, 0b011, 0b101, 0b110, 0b111)


def from_vectors(vectors: torch.Tensor) -> torch.Tensor:
    """Return the multivectors ``[..., 8]`` of pure vectors ``[..., 3]``."""
    zeros = torch.zeros_like(vectors)
    return torch.cat([zeros[..., :1], vectors, zeros, zeros[..., :1]], dim=-1)


def geometric_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Multiply multivectors.

    Args:
        left: ``[..., 8]``.
        right: ``[..., 8]``, of the same shape.

    Returns:
        ``[..., 8]``.
    """
    product: torch.Tensor = torch.matmul(left.unsqueeze(-2), _matrices(right)).squeeze(-2)
    return product


def products_of_pairs(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Multiply every multivector of a list with every one of another, for many pairs of lists.

    Args:
        left: ``[C, n, 8]``.
        right: ``[C, m, 8]``.

    Returns:
        ``[C, n, m, 8]``; as one matrix product for each C, without anything larger on the way.
    """
    matrices = _matrices(right).transpose(1, 2).flatten(2)
    products: torch.Tensor = torch.bmm(left, matrices).unflatten(2, (right.shape[1], SIZE))
    return products


def guarded_norm(components: torch.Tensor) -> torch.Tensor:
    """Return ``sqrt(|x|^2 + g^2) - g`` over the last dimension, kept as one component.

    A plain norm has no derivative at zero, and zero is common here: the area between a bond and
    itself, or between two bonds on one line. The guarded norm has all derivatives everywhere, is
    zero at zero, and grows like the norm; its second derivative is at most 1 / :data:`GUARD`.
    (A squared norm is as smooth, but grows with the fourth power of lengths for areas.)
    """
    return (components.square().sum(-1, keepdim=True) + GUARD**2).sqrt() - GUARD


def invariants(multivectors: torch.Tensor, *, mirror: bool) -> torch.Tensor:
    """Return what rotations leave unchanged: one number per grade.

    Args:
        multivectors: ``[..., 8]``.
        mirror: Take the guarded norm of the trivector too, so that mirror images have the same
            invariants. Otherwise the trivector is taken with its sign, which a reflection turns.

    Returns:
        ``[..., 4]``: the scalar, the guarded norms of vector and bivector, the trivector.
    """
    scalar, vector, bivector, trivector = (multivectors[..., grade] for grade in GRADES)
    volume = guarded_norm(trivector) if mirror else trivector
    return torch.cat([scalar, guarded_norm(vector), guarded_norm(bivector), volume], dim=-1)


def _matrices(right: torch.Tensor) -> torch.Tensor:
    """Return ``[..., 8, 8]``: multiplication from the right, as a matrix that acts on rows."""
    partners, signs = _table(right.dtype, right.device)
    matrices: torch.Tensor = right.index_select(-1, partners).unflatten(-1, (SIZE, SIZE)) * signs
    return matrices


def _swaps(left: int, right: int) -> int:
    """Count the swaps of neighbors that sort the unit vectors of two basis elements."""
    return sum((left >> (k + 1)).bit_count() for k in range(3) if right >> k & 1)


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def _table(dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which right factor makes component k of left factor i, ``[64]``, and its sign."""
    partners = [_FACTORS.index(i ^ k) for i in _FACTORS for k in _FACTORS]
    signs = [[(-1.0) ** _swaps(i, i ^ k) for k in _FACTORS] for i in _FACTORS]
    return torch.tensor(partners, device=device), torch.tensor(signs, dtype=dtype, device=device)
