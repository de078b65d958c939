"""Losses against numbers worked out by hand, and rows that must not count."""

from __future__ import annotations

import pytest
import torch

from adatom.core.errors import ConfigError, UnknownNameError
from adatom.tasks.losses import LOSSES, LossSum, build_loss
from adatom.tasks.targets import Target

NATOMS = torch.tensor([2.0, 4.0])
PRED = torch.tensor([3.0, 10.0])
TARGET = torch.tensor([1.0, 6.0], dtype=torch.float64)


def sums(
    prop: str,
    name: str,
    pred: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor | None = None,
    systems: list[int] | None = None,
    **kwargs: float | str,
) -> LossSum:
    natoms = NATOMS if len(pred) == 2 else torch.ones(len(pred))
    of = torch.tensor(systems) if systems else torch.arange(len(pred))
    counted = torch.ones(len(pred), dtype=torch.bool) if mask is None else mask
    loss = build_loss(prop, {"name": name, **kwargs})
    return loss(pred, Target(target.double(), counted, natoms, of, int(of.max()) + 1))


def mean(
    prop: str, name: str, pred: torch.Tensor, target: torch.Tensor, **kwargs: float | str
) -> float:
    return float(sums(prop, name, pred, target, **kwargs).value)


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


def test_huber_of_components_and_of_norms() -> None:
    pred = torch.tensor([[3.0, 0.2, 0.0]])
    expected = ((0.5 * (3.0 - 0.25)) + 0.5 * 0.2**2) / 3
    assert mean("forces", "huber", pred, torch.zeros(1, 3), delta=0.5) == pytest.approx(expected)
    stress = torch.zeros(1, 3, 3)
    stress[0, 0] = pred[0]
    expected /= 3
    found = mean("stress", "huber", stress, torch.zeros(1, 3, 3), delta=0.5)
    assert found == pytest.approx(expected)
    stress[0, 2, 2] = 4.0
    norm = mean("stress", "l2norm", stress, torch.zeros(1, 3, 3))
    assert norm == pytest.approx((9 + 0.04 + 16) ** 0.5)


def test_reductions() -> None:
    pred = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0], [0.0, 2.0, 0.0], [9.0, 9.0, 9.0]])
    mask = torch.tensor([True, True, True, False])
    reduced = {
        reduction: sums(
            "forces", "l2norm", pred, torch.zeros(4, 3), mask, [0, 0, 1, 2], reduction=reduction
        )
        for reduction in ("mean", "sum", "per_structure")
    }
    values = {name: float(loss.value) for name, loss in reduced.items()}
    # The third structure has nothing that counts.
    assert values == pytest.approx({"mean": 8 / 3, "sum": 8.0, "per_structure": (3 + 2) / 2})
    assert {name: float(loss.count) for name, loss in reduced.items()} == {
        "mean": 3.0,
        "sum": 0.0,
        "per_structure": 2.0,
    }
    assert all(float(loss.values) == 3.0 for loss in reduced.values())


def test_components_are_reduced_per_structure_too() -> None:
    pred = torch.tensor([[3.0, 4.0, 2.0], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    zeros = torch.zeros(3, 3)
    found = mean("forces", "mae", pred, zeros, systems=[0, 0, 1], reduction="per_structure")
    assert found == pytest.approx((9 / 6 + 3 / 3) / 2)


@pytest.mark.parametrize("reduction", ["mean", "sum", "per_structure"])
def test_batches_add_up(reduction: str) -> None:
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.randn(2, 6, 3, generator=generator)
    mask = torch.tensor([True, True, False, True, True, True])
    whole = sums("forces", "mae", pred, target, mask, [0, 0, 0, 1, 1, 2], reduction=reduction)
    parts = [
        sums("forces", "mae", pred[:3], target[:3], mask[:3], [0, 0, 0], reduction=reduction),
        sums("forces", "mae", pred[3:], target[3:], mask[3:], [0, 0, 1], reduction=reduction),
    ]
    assert float((parts[0] + parts[1]).value) == pytest.approx(float(whole.value))


@pytest.mark.parametrize(
    ("prop", "name"), [(prop, name) for prop, table in LOSSES.items() for name in table]
)
@pytest.mark.parametrize("reduction", ["mean", "sum", "per_structure"])
def test_rows_outside_the_mask_reach_neither_value_nor_gradient(
    prop: str, name: str, reduction: str
) -> None:
    shape = {"forces": (3, 3), "stress": (3, 3, 3)}.get(prop, (3,))
    weight = torch.ones(shape, requires_grad=True)
    broken = torch.zeros(shape)
    broken[1] = torch.nan
    target = torch.zeros(shape)
    target[2] = torch.nan
    mask = torch.tensor([True, False, False])
    found = sums(prop, name, weight + broken, target, mask, reduction=reduction)
    found.total.backward()
    assert found.total.isfinite()
    assert float(found.values) == (1.0 if name == "l2norm" else target[:1].numel())
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
    assert weight.grad[0].any()
    assert not weight.grad[1:].any()


def test_components_of_a_stress_are_masked_one_by_one() -> None:
    pred = torch.ones(2, 3, 3)
    pred[1] = 5.0
    mask = torch.zeros(2, 3, 3, dtype=torch.bool)
    mask[0] = True
    mask[1, 0, 0] = True
    found = sums("stress", "mae", pred, torch.zeros(2, 3, 3), mask)
    assert (float(found.total), float(found.count)) == (9.0 + 5.0, 10.0)
    # A norm needs all nine.
    found = sums("stress", "l2norm", pred, torch.zeros(2, 3, 3), mask)
    assert (float(found.total), float(found.count)) == (3.0, 1.0)


@pytest.mark.parametrize(
    ("prop", "name"), [(prop, name) for prop, table in LOSSES.items() for name in table]
)
def test_nothing_labelled_is_zero_and_differentiable(prop: str, name: str) -> None:
    shape = {"forces": (2, 3), "stress": (2, 3, 3)}.get(prop, (2,))
    weight = torch.ones(shape, requires_grad=True)
    mask = torch.zeros(2, dtype=torch.bool)
    found = sums(prop, name, weight, torch.full(shape, torch.nan), mask)
    found.value.backward()
    assert (float(found.value.detach()), float(found.count)) == (0.0, 0.0)
    assert weight.grad is not None
    assert not weight.grad.any()


def test_exact_forces_have_a_finite_gradient() -> None:
    pred = torch.zeros(2, 3, requires_grad=True)
    sums("forces", "l2norm", pred, torch.zeros(2, 3)).total.backward()
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
    with pytest.raises(ConfigError, match="did you mean 'per_structure'"):
        build_loss("forces", {"name": "mae", "reduction": "per_structur"})
    with pytest.raises(ConfigError, match="Expected one of: mean, sum"):
        build_loss("forces", {"name": "mae", "reduction": 1})
