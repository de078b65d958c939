"""The algebra against Pauli matrices, its axioms, and rotations written out in coordinates."""

from __future__ import annotations

import math

import pytest
import torch

from adatom.nn.geometric_algebra import (
    GRADES,
    from_vectors,
    geometric_product,
    guarded_norm,
    invariants,
    products_of_pairs,
)

#: 1, e1, e2, e3 as 2x2 matrices; every other basis element is a product of these.
PAULI = torch.tensor(
    [[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]],
    dtype=torch.complex128,
)
FACTORS = ((), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3))


def as_matrix(multivectors: torch.Tensor) -> torch.Tensor:
    """Represent ``[..., 8]`` by ``[..., 2, 2]``."""
    basis = []
    for factors in FACTORS:
        matrix = PAULI[0]
        for factor in factors:
            matrix = matrix @ PAULI[factor]
        basis.append(matrix)
    return torch.einsum("...k,kab->...ab", multivectors.to(torch.complex128), torch.stack(basis))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_products_are_those_of_pauli_matrices():
    a, b = random(40, 8), random(40, 8, seed=1)
    found = as_matrix(geometric_product(a, b))
    torch.testing.assert_close(found, as_matrix(a) @ as_matrix(b), rtol=0, atol=1e-13)


def test_product_is_associative_and_has_a_unit():
    a, b, c = random(20, 8), random(20, 8, seed=1), random(20, 8, seed=2)
    left = geometric_product(geometric_product(a, b), c)
    torch.testing.assert_close(left, geometric_product(a, geometric_product(b, c)))
    unit = torch.eye(8, dtype=torch.float64)[:1].expand(20, 8)
    torch.testing.assert_close(geometric_product(unit, a), a)
    torch.testing.assert_close(geometric_product(a, unit), a)


def test_product_of_vectors_is_the_dot_and_the_cross_product():
    a, b = random(10, 3), random(10, 3, seed=1)
    product = geometric_product(from_vectors(a), from_vectors(b))
    torch.testing.assert_close(product[:, 0], (a * b).sum(1))
    cross = torch.linalg.cross(a, b)  # e23, -e13, e12
    torch.testing.assert_close(product[:, [6, 5, 4]], cross * torch.tensor([1.0, -1.0, 1.0]))
    assert not product[:, [1, 2, 3, 7]].any()


def test_all_pairs_equal_one_after_the_other():
    a, b = random(3, 4, 8), random(3, 5, 8, seed=1)
    found = products_of_pairs(a, b)
    for c in range(3):
        for i in range(4):
            for j in range(5):
                torch.testing.assert_close(found[c, i, j], geometric_product(a[c, i], b[c, j]))


def rotor(angle: float) -> torch.Tensor:
    """Return the rotor of a turn by ``angle`` in the plane e1 e2, times one in e2 e3."""
    cosine, sine = math.cos(angle / 2), math.sin(angle / 2)
    first = torch.tensor([cosine, 0, 0, 0, -sine, 0, 0, 0], dtype=torch.float64)
    second = torch.tensor([cosine, 0, 0, 0, 0, 0, -sine, 0], dtype=torch.float64)
    return geometric_product(first, second)


def turned(multivectors: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Return R M R~ with the reversed rotor R~."""
    reverse = by * torch.tensor([1.0, 1, 1, 1, -1, -1, -1, -1])
    left = geometric_product(by.expand_as(multivectors), multivectors)
    return geometric_product(left, reverse.expand_as(multivectors))


def test_rotors_turn_vectors_like_rotation_matrices():
    angle = 0.7
    c, s = math.cos(angle), math.sin(angle)
    in_xy = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
    in_yz = torch.tensor([[1, 0, 0], [0, c, -s], [0, s, c]], dtype=torch.float64)
    vectors = random(6, 3)
    found = turned(from_vectors(vectors), rotor(angle))
    torch.testing.assert_close(found, from_vectors(vectors @ (in_xy @ in_yz).T))


def test_rotations_keep_grades_apart_and_invariants_as_they_are():
    points = random(20, 8)
    for grade in GRADES:
        part = torch.zeros_like(points)
        part[:, grade] = points[:, grade]
        rest = turned(part, rotor(1.1))
        rest[:, grade] = 0
        assert float(rest.abs().max()) < 1e-14
    for mirror in (True, False):
        found = invariants(turned(points, rotor(1.1)), mirror=mirror)
        torch.testing.assert_close(found, invariants(points, mirror=mirror), rtol=0, atol=1e-13)


def test_point_reflection_is_an_automorphism_that_turns_the_trivector():
    signs = torch.tensor([1.0, -1, -1, -1, 1, 1, 1, -1], dtype=torch.float64)
    a, b = random(9, 8), random(9, 8, seed=1)
    reflected = geometric_product(a * signs, b * signs)
    torch.testing.assert_close(reflected, geometric_product(a, b) * signs)
    torch.testing.assert_close(invariants(a * signs, mirror=True), invariants(a, mirror=True))
    by_sign = invariants(a * signs, mirror=False)
    torch.testing.assert_close(by_sign[:, 3], -a[:, 7])


def test_guarded_norm_is_smooth_at_zero_and_a_norm_far_away():
    zero = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    assert guarded_norm(zero).tolist() == [[0.0], [0.0]]
    assert torch.autograd.gradgradcheck(guarded_norm, zero)
    far = torch.tensor([[30.0, 40.0]], dtype=torch.float64)
    assert float(guarded_norm(far)) == pytest.approx(50 - 0.1, rel=1e-5)
