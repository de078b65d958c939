"""Losses against numbers worked out by hand, and rows that must not count."""

from __future__ import annotations

import pytest
import torch

from adatom.core.errors import ConfigError, UnknownNameError
from adatom.tasks.losses import LOSSES, build_loss

NATOMS = torch.tensor([2.0, 4.0])
PRED = torch.tensor([3.0, 10.0])
TARGET = torch.tensor([1.0, 6.0], dtype=torch.float64)


def mean(prop: str, name: str, pred: torch.Tensor, target: torch.Tensor, **kwargs: float) -> float:
    natoms = NATOMS if len(pred) == 2 else torch.ones(len(pred))
    everything = torch.ones(len(pred), dtype=torch.bool)
    total, count = build_loss(prop, {"name": name, **kwargs}).sum_and_count(
        pred, target, natoms, everything
    )
    return float(total) / count


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mae", (2 + 4) / 2),
        ("mse", (4 + 16) / 2),
        ("per_atom_mae", (2 / 2 + 4 / 4) / 2),
        ("per_atom_mse", (1 + 1) / 2),
    ],
)
def test_energy(name: str, expected: float) -> None:
    assert mean("energy", name, PRED, TARGET) == pytest.approx(expected)


def test_energy_huber_is_quadratic_then_linear() -> None:
    # errors per atom: 1 (above delta) and 0.1 (below)
    pred, target = torch.tensor([3.0, 6.4]), torch.tensor([1.0, 6.0])
    expected = (0.5 * (1.0 - 0.25) + 0.5 * 0.1**2) / 2
    assert mean("energy", "huber", pred, target, delta=0.5) == pytest.approx(expected, rel=1e-5)


def test_forces() -> None:
    pred = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 1.0]])
    target = torch.zeros(2, 3)
    assert mean("forces", "l2norm", pred, target) == pytest.approx((3 + 1) / 2)
    assert mean("forces", "mae", pred, target) == pytest.approx(6 / 6)
    assert mean("forces", "mse", pred, target) == pytest.approx(10 / 6)


def test_stress() -> None:
    pred = torch.zeros(1, 3, 3)
    pred[0, 0, 0], pred[0, 1, 2] = 3.0, -6.0
    assert mean("stress", "mae", pred, torch.zeros(1, 3, 3)) == pytest.approx(1.0)
    assert mean("stress", "mse", pred, torch.zeros(1, 3, 3)) == pytest.approx(5.0)


def test_coefficient() -> None:
    assert mean("energy", "mae", PRED, TARGET, coefficient=10.0) == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("prop", "name"), [(prop, name) for prop, table in LOSSES.items() for name in table]
)
def test_rows_outside_the_mask_reach_neither_value_nor_gradient(prop: str, name: str) -> None:
    shape = {"energy": (3,), "forces": (3, 3), "stress": (3, 3, 3)}[prop]
    weight = torch.ones(shape, requires_grad=True)
    broken = torch.zeros(shape)
    broken[1] = torch.nan
    pred = weight + broken
    target = torch.zeros(shape)
    target[2] = torch.nan
    mask = torch.tensor([True, False, False])
    total, count = build_loss(prop, {"name": name}).sum_and_count(pred, target, torch.ones(3), mask)
    total.backward()
    assert total.isfinite()
    assert count == target[:1].numel() or name == "l2norm"
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
    assert not weight.grad[1:].any()


def test_nothing_labelled_is_zero_and_differentiable() -> None:
    weight = torch.ones(2, requires_grad=True)
    mask = torch.zeros(2, dtype=torch.bool)
    total, count = build_loss("energy", {"name": "mae"}).sum_and_count(
        weight, torch.full((2,), torch.nan), torch.ones(2), mask
    )
    total.backward()
    assert (float(total.detach()), count) == (0.0, 0)
    assert weight.grad is not None
    assert not weight.grad.any()


def test_exact_forces_have_a_finite_gradient() -> None:
    pred = torch.zeros(2, 3, requires_grad=True)
    everything = torch.ones(2, dtype=torch.bool)
    total, _ = build_loss("forces", {"name": "l2norm"}).sum_and_count(
        pred, torch.zeros(2, 3), torch.ones(2), everything
    )
    total.backward()
    assert pred.grad is not None
    assert not pred.grad.any()


def test_mistakes_name_what_is_known() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'per_atom_mae'"):
        build_loss("energy", {"name": "per_atom_ma"})
    with pytest.raises(UnknownNameError, match="did you mean 'forces'"):
        build_loss("force", {"name": "mae"})
    with pytest.raises(UnknownNameError, match="did you mean 'coefficient'"):
        build_loss("energy", {"name": "mae", "coeficient": 2})
    with pytest.raises(ConfigError, match="has no name"):
        build_loss("energy", {"coefficient": 2.0})
    with pytest.raises(ConfigError, match="not negative"):
        build_loss("energy", {"name": "mae", "coefficient": -1.0})
    with pytest.raises(ConfigError, match="Expected a number"):
        build_loss("energy", {"name": "mae", "coefficient": "2"})
