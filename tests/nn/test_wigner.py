"""Rotations into edge frames: group properties, action on harmonics, derivatives everywhere."""

from __future__ import annotations

import pytest
import torch

from adatom.core.errors import ConfigError
from adatom.nn.harmonics import spherical_harmonics
from adatom.nn.layout import CoefficientLayout
from adatom.nn.wigner import edge_frames, edge_rotations

SPECIAL = torch.tensor(
    [
        [0.0, 1, 0],
        [0, -1, 0],
        [1, 0, 0],
        [-1, 0, 0],
        [0, 0, 1],
        [0, 0, -1],
        [1e-9, 1, 0],
        [1e-9, -1, -1e-9],
        [1, 1, 0],
        [1, -1, 1],
    ],
    dtype=torch.float64,
)


def directions(count: int = 30) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(torch.cat([SPECIAL, random]))


def l_major(rotations: torch.Tensor, layout: CoefficientLayout) -> torch.Tensor:
    return rotations[:, torch.argsort(layout.edge_rows)]


def test_frames_are_rotations_that_take_the_edge_to_y():
    u = directions()
    frames = edge_frames(u)
    up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand_as(u)
    torch.testing.assert_close((frames @ u.unsqueeze(2)).squeeze(2), up)
    torch.testing.assert_close(torch.linalg.det(frames), torch.ones(len(u), dtype=torch.float64))


@pytest.mark.parametrize("lmax", [0, 1, 2, 4, 6])
def test_matrices_are_orthogonal_and_rotate_harmonics(lmax):
    u = directions()
    layout = CoefficientLayout(lmax, lmax)
    matrices = l_major(edge_rotations(u, layout), layout)
    identity = torch.eye(layout.node_size, dtype=torch.float64).expand_as(matrices)
    torch.testing.assert_close(matrices @ matrices.mT, identity, atol=1e-12, rtol=0)
    points = directions(12)
    rotated = torch.einsum("eij,pj->epi", edge_frames(u), points)
    expected = spherical_harmonics(rotated, lmax)
    found = torch.einsum("eij,pj->epi", matrices, spherical_harmonics(points, lmax))
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_matrices_represent_products_of_rotations():
    """D(R1) D(R2)^T represents R1 R2^T, so it acts on harmonics as that one rotation does."""
    layout = CoefficientLayout(4, 4)
    first, second = directions(), directions().flip(0)
    a, b = (l_major(edge_rotations(u, layout), layout) for u in (first, second))
    product = edge_frames(first) @ edge_frames(second).mT
    points = directions(7)
    expected = spherical_harmonics(torch.einsum("eij,pj->epi", product, points), 4)
    found = torch.einsum("eij,pj->epi", a @ b.mT, spherical_harmonics(points, 4))
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("lmax", "mmax"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (6, 3)])
def test_truncation_in_m_drops_rows_only(lmax, mmax):
    u = directions()
    layout, full = CoefficientLayout(lmax, mmax), CoefficientLayout(lmax, lmax)
    complete = l_major(edge_rotations(u, full), full)
    torch.testing.assert_close(edge_rotations(u, layout), complete[:, layout.edge_rows])


def test_single_precision_is_accurate():
    layout = CoefficientLayout(6, 6)
    exact = edge_rotations(directions(), layout)
    rounded = edge_rotations(directions().float(), layout)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded.double(), exact, atol=2e-6, rtol=0)


def test_first_and_second_derivatives_exist_in_every_direction():
    def from_vectors(vectors):
        return edge_rotations(torch.nn.functional.normalize(vectors), CoefficientLayout(3, 2))

    lengths = torch.linspace(0.5, 3.0, len(SPECIAL), dtype=torch.float64).unsqueeze(1)
    vectors = (directions(0) * lengths).requires_grad_()
    assert torch.autograd.gradcheck(from_vectors, vectors)
    assert torch.autograd.gradgradcheck(
        from_vectors, vectors[[0, 1, 2, 7]].detach().requires_grad_()
    )


def test_layout_orders_coefficients_as_published():
    assert CoefficientLayout(2, 2).edge_rows.tolist() == [0, 2, 6, 3, 7, 1, 5, 8, 4]
    assert CoefficientLayout(2, 1).order_sizes == (3, 4)
    with pytest.raises(ConfigError, match="mmax"):
        CoefficientLayout(2, 3)
