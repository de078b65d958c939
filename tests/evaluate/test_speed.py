"""What is measured of a potential's speed, and what is recommended."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk

from adatom.core.errors import ConfigError
from adatom.evaluate.sample_structures import copper_box, water_box
from adatom.evaluate.speed import Speed, measure_speed, recommend
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.nn.buffer_pool import Loan
from adatom.nn.peak_memory import PeakMemory
from toy_backbone import toy_potential


def speed(preset, seconds, structures=1):
    """Return what could have been measured of 10 atoms."""
    return Speed(
        preset=preset,
        atoms=10,
        edges=100,
        properties=("energy", "forces"),
        structures=structures,
        calls=3,
        seconds=seconds,
        first_seconds=1.0,
        peak_bytes=None,
        explanation="",
    )


def test_peak_memory_sees_what_is_freed_again():
    memory = PeakMemory(torch.device("cpu"))
    block = np.ones(2**24)
    del block
    rise = memory.rise()
    assert rise is None or 1.2e8 < rise < 2e8


def test_reserved_memory_is_not_taken_for_the_model():
    loan = Loan([(2**24,)], torch.zeros(1))
    loan.tensors[0].fill_(1.0)
    del loan
    memory = PeakMemory(torch.device("cpu"))
    loan = Loan([(2**24,)], torch.zeros(1))
    loan.tensors[0].fill_(1.0)
    rise = memory.rise()
    assert rise is None or 6e7 < rise < 1e8


def test_units_of_speed():
    one = speed("default", 0.1)
    assert one.atoms_per_second == pytest.approx(100.0)
    # 864,000 steps of 2 fs.
    assert one.ns_per_day(2.0) == pytest.approx(1.728)
    assert speed("batch", 0.1, 4).ns_per_day(2.0) is None


def test_limits_hold_and_atoms_move():
    unit = MLIPPredictUnit(toy_potential())
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    before = atoms.positions.copy()
    found = measure_speed(unit, atoms, "default", task_name=unit.potential.datasets[0], repeats=3)
    assert found.calls == 3
    assert found.properties == ("energy", "forces", "stress")
    np.testing.assert_array_equal(atoms.positions, before)
    with pytest.raises(ConfigError, match="limits"):
        measure_speed(unit, atoms, "default", repeats=0)


def test_recommendation_is_the_fastest_but_default_if_nothing_is_gained():
    default, turbo = speed("default", 0.2), speed("turbo", 0.1)
    text = recommend([default, turbo, speed("batch", 0.05, 4)], 1.0)
    assert text.startswith("For dynamics or relaxation take 'turbo': 100 ms per step, 0.864 ns/day")
    assert "2 times the speed of 'default'" in text
    assert "'batch', 2 times faster each." in text
    assert "take 'default'" in recommend([default, speed("turbo", 0.196)], 1.0)
    assert "'batch' gains nothing" in recommend([default, speed("batch", 0.2, 4)], 1.0)
    assert "'batch' predicts one in 50 ms" in recommend([speed("batch", 0.05, 4)], 1.0)


def test_sample_structures_are_as_dense_as_the_real_ones():
    copper, water = copper_box(), water_box()
    assert (len(copper), len(water)) == (108, 192)
    density = water.get_masses().sum() / water.cell.volume * 1.66054
    assert density == pytest.approx(1.0, abs=0.02)
    distances = water.get_all_distances(mic=True)
    assert distances[np.triu_indices(192, 1)].min() > 0.9
