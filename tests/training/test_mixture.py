"""Mixtures of datasets: ratios, what is drawn, and that it can be repeated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adatom.core.errors import ConfigError, UnknownNameError
from adatom.training.batching import BatchLimits, BatchPlan, StructureSizes
from adatom.training.mixture import MixedOrder, Mixture, sampling_ratios

COUNTS = {"a": 100_000, "b": 10_000, "c": 1_000}


def ratios(**given: Any) -> list[float]:
    return list(sampling_ratios(Mixture(**given), COUNTS).values())


def test_ratios() -> None:
    # The numbers of the published formula for sizes 1e5, 1e4, 1e3.
    assert ratios(sampling="temperature", temperature=2.0) == pytest.approx([1, 10**0.5, 10])
    assert ratios(sampling="temperature", temperature=1.0) == pytest.approx([1, 1, 1])
    assert ratios(sampling="balanced") == pytest.approx([1, 10, 100])
    given = {"c": 0.0, "a": 0.5, "b": 2.0}
    assert ratios(ratios=given) == [0.5, 2.0, 0.0]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, ConfigError, "ratios are not given"),
        ({"sampling": "balanced", "ratios": {"a": 1.0}}, ConfigError, "do not go with"),
        ({"sampling": "temperature"}, ConfigError, "temperature is None"),
        ({"sampling": "temperature", "temperature": 0.5}, ConfigError, "at least 1"),
        ({"ratios": {"a": 1.0, "b": -1.0, "c": 1.0}}, ConfigError, r"ratios\.b is -1"),
        ({"ratios": {"a": 1.0, "b": 1.0}}, ConfigError, "no entry for dataset 'c'"),
        ({"ratios": {"a": 1.0, "b": 1.0, "c": 1, "d": 1}}, UnknownNameError, "'d'"),
        ({"ratios": {"a": 0.0, "b": 0.0, "c": 0.0}}, ConfigError, "nothing would be drawn"),
    ],
)
def test_mistakes(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ratios(**given)


NAMES = ["b"] * 10 + ["a"] * 40 + ["c"] * 7


def test_draws_are_exact_on_average_and_even() -> None:
    wanted = {"a": 0.3, "b": 2.0, "c": 1.45}
    order = MixedOrder(NAMES, wanted, seed=1)
    drawn = np.zeros((2000, len(NAMES)), dtype=int)
    for epoch, row in enumerate(drawn):
        np.add.at(row, order.rows(epoch), 1)
    names = np.array(NAMES)
    for name, ratio in wanted.items():
        part = drawn[:, names == name]
        assert part.min() >= int(ratio)
        assert part.max() <= int(np.ceil(ratio))
        # 5 standard errors, of all draws and of each structure.
        assert part.mean() == pytest.approx(ratio, abs=0.01)
        np.testing.assert_allclose(part.mean(axis=0), ratio, atol=0.06)


def test_epochs_differ_and_repeat() -> None:
    order = MixedOrder(NAMES, {"a": 0.3, "b": 2.0, "c": 1.45}, seed=1)
    again = MixedOrder(NAMES, {"c": 1.45, "b": 2.0, "a": 0.3}, seed=1)
    np.testing.assert_array_equal(order.rows(3), again.rows(3))
    assert order.rows(3).tolist() != order.rows(4).tolist()
    other = MixedOrder(NAMES, {"a": 0.3, "b": 2.0, "c": 1.45}, seed=2)
    assert order.rows(3).tolist() != other.rows(3).tolist()


def test_batches_of_a_mixture_are_shared_out() -> None:
    order = MixedOrder(NAMES, {"a": 0.5, "b": 2.0, "c": 1.0}, seed=1)
    atoms = np.arange(len(NAMES)) % 9 + 1
    sizes = StructureSizes(atoms, atoms * 10, str)
    whole = BatchPlan(sizes, BatchLimits(atoms=40), seed=1, order=order).batches(2)
    plan = BatchPlan(sizes, BatchLimits(atoms=20), seed=1, order=order)
    shares = zip(*(plan.batches(2, rank, 2) for rank in range(2)), strict=True)
    assert sorted(np.concatenate(whole)) == sorted(order.rows(2))
    for step, pair in zip(whole, shares, strict=True):
        assert sorted(step) == sorted(np.concatenate(pair))
