"""Metrics are sums and counts: batching must not matter, nothing counted is NaN, not zero."""

from __future__ import annotations

import math

import pytest
import torch

from adatom.core.errors import ConfigError, UnknownNameError
from adatom.tasks.metrics import MetricSum, check_metrics, metric_for, metric_names

PRED = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
TARGET = torch.tensor([[0.0, 5.0, 0.0], [0.0, 0.0, 0.0], [0.0, 2.0, 0.0]])


def measured(
    prop: str,
    name: str,
    pred: torch.Tensor,
    target: torch.Tensor,
    natoms: list[float] | None = None,
) -> MetricSum:
    metric = metric_for(prop, name)
    assert metric.elements is not None
    atoms = torch.tensor(natoms or [1.0] * len(pred))
    return MetricSum.of(metric.elements(pred, target, atoms), root=metric.root)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mae", (3 + 1 + 1 + 1) / 9),
        ("mse", (9 + 1 + 1 + 1) / 9),
        ("rmse", math.sqrt((9 + 1 + 1 + 1) / 9)),
        ("norm_mae", (math.sqrt(10) + 1 + 1) / 3),
        ("norm_rmse", math.sqrt(12 / 3)),
        ("magnitude_error", (0 + 1 + 1) / 3),
        # The second atom has no true direction and does not count.
        ("cosine_similarity", (20 / 25 + 1.0) / 2),
        ("forcesx_mae", 3 / 3),
        ("forcesy_mae", 2 / 3),
        ("forcesz_mae", 1 / 3),
        ("forcesx_mse", 9 / 3),
        ("forcesy_mse", 2 / 3),
        ("forcesz_mse", 1 / 3),
    ],
)
def test_forces_by_hand(name: str, expected: float) -> None:
    assert measured("forces", name, PRED, TARGET).value == pytest.approx(expected)


def test_a_predicted_zero_agrees_with_no_direction() -> None:
    # Else a potential without any forces would be perfect.
    none = measured("forces", "cosine_similarity", torch.zeros(3, 3), TARGET)
    assert (float(none.total), float(none.count)) == (0.0, 2.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("per_atom_mae", 2.0),
        ("per_atom_mse", (1 + 9) / 2),
        ("per_atom_rmse", math.sqrt((1 + 9) / 2)),
        ("mae", 3.5),
        ("rmse", math.sqrt((1 + 36) / 2)),
    ],
)
def test_energies_by_hand(name: str, expected: float) -> None:
    found = measured("energy", name, torch.tensor([1.0, 6.0]), torch.zeros(2), [1.0, 2.0])
    assert found.value == pytest.approx(expected)


def test_energies_within_threshold() -> None:
    errors = torch.tensor([0.019, -0.019, 0.021, -1.0])
    found = measured("energy", "energy_within_threshold", errors, torch.zeros(4))
    assert found.value == 0.5


@pytest.mark.parametrize("name", ["mae", "rmse", "norm_mae", "norm_rmse", "cosine_similarity"])
def test_unequal_batches_give_the_same_as_one(name: str) -> None:
    total = measured("forces", name, PRED[:1], TARGET[:1])
    total += measured("forces", name, PRED[1:], TARGET[1:])
    total += measured("forces", name, PRED[:0], TARGET[:0])
    assert total.value == pytest.approx(measured("forces", name, PRED, TARGET).value)


def test_nothing_counted_is_nan() -> None:
    assert math.isnan(MetricSum().value)
    assert math.isnan(measured("forces", "rmse", PRED[:0], TARGET[:0]).value)


def test_different_measures_are_not_added() -> None:
    total = MetricSum(root=True)
    with pytest.raises(ConfigError, match="root of a mean"):
        total += MetricSum()


def test_unknown_metric() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'cosine_similarity'"):
        metric_for("forces", "cosine_similarit")
    with pytest.raises(UnknownNameError, match="metric of energy"):
        check_metrics("energy", ["mae", "cosine_similarity"])
    assert "energy_forces_within_threshold" in metric_names("energy")
    assert "energy_forces_within_threshold" not in metric_names("forces")
