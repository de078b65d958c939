"""Metrics are sums and counts: batching must not matter, nothing counted is NaN, not zero."""

from __future__ import annotations

import math

import pytest
import torch

from adatom.core.errors import UnknownNameError
from adatom.tasks.metrics import Measures, MetricSum

PRED = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
TARGET = torch.tensor([[0.0, 5.0, 0.0], [0.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
ALL = torch.ones(3, dtype=torch.bool)
NAMES = ["mae", "rmse", "norm_mae", "norm_rmse", "cosine_similarity", "magnitude_error"]


def test_forces_by_hand() -> None:
    measures = Measures("forces", NAMES)
    measures.add(PRED, TARGET, torch.ones(3), ALL)
    values = measures.values()
    assert values["mae"] == pytest.approx((3 + 1 + 1 + 1) / 9)
    assert values["rmse"] == pytest.approx(math.sqrt((9 + 1 + 1 + 1) / 9))
    assert values["norm_mae"] == pytest.approx((math.sqrt(10) + 1 + 1) / 3)
    assert values["norm_rmse"] == pytest.approx(math.sqrt(12 / 3))
    assert values["magnitude_error"] == pytest.approx((0 + 1 + 1) / 3)
    # The second atom has no true direction and does not count.
    assert values["cosine_similarity"] == pytest.approx((20 / 25 + 1.0) / 2)


def test_energy_per_atom() -> None:
    measures = Measures("energy", ["per_atom_mae", "per_atom_rmse", "mae"])
    natoms = torch.tensor([1.0, 2.0])
    everything = torch.ones(2, dtype=torch.bool)
    measures.add(torch.tensor([1.0, 6.0]), torch.tensor([0.0, 0.0]), natoms, everything)
    assert measures.values() == pytest.approx(
        {"per_atom_mae": 2.0, "per_atom_rmse": math.sqrt((1 + 9) / 2), "mae": 3.5}
    )


def test_unequal_batches_give_the_same_as_one() -> None:
    whole, parts = Measures("forces", NAMES), Measures("forces", NAMES)
    whole.add(PRED, TARGET, torch.ones(3), ALL)
    parts.add(PRED[:1], TARGET[:1], torch.ones(1), ALL[:1])
    parts.add(PRED[1:], TARGET[1:], torch.ones(2), ALL[1:])
    assert parts.values() == pytest.approx(whole.values())


def test_masked_rows_are_never_looked_at() -> None:
    measures = Measures("forces")
    pred = PRED.clone()
    pred[1] = torch.nan
    measures.add(pred, TARGET, torch.ones(3), torch.tensor([True, False, True]))
    assert all(math.isfinite(value) for value in measures.values().values())


def test_nothing_counted_is_nan() -> None:
    assert math.isnan(MetricSum().value)
    measures = Measures("forces")
    measures.add(PRED, TARGET, torch.ones(3), ~ALL)
    assert all(math.isnan(value) for value in measures.values().values())


def test_unknown_metric() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'cosine_similarity'"):
        Measures("forces", ["cosine_similarit"])
    with pytest.raises(UnknownNameError, match="metric of energy"):
        Measures("energy", ["cosine_similarity"])
