"""The benchmark of batched simulations compares before it times, and takes turns."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ase.build import molecule

from adatom.core.errors import ConfigError

# The benchmarks are not installed; "pytest" alone does not look into the working directory.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.batched import COLUMNS, Way, measure, row_of, structures_of


def ways(log: list[str], energies: dict[str, float]) -> dict[str, Way]:
    def way(name: str) -> Way:
        return Way(lambda: log.append(name) or [energies[name]])

    return {name: way(name) for name in energies}


def test_ways_take_turns_after_a_comparison():
    log: list[str] = []
    found = ways(log, {"together": 1.0, "loop": 1.0 + 1e-6, "ASE": 1.0})
    assert measure(found, 2, 1e-3) == pytest.approx(1e-6)
    assert log == ["together", "loop", "ASE"] * 2 + ["loop", "ASE", "together"]
    with pytest.raises(ConfigError, match=r"differ by 0\.5 eV"):
        measure(ways([], {"together": 1.0, "loop": 1.5, "ASE": 1.0}), 2, 1e-3)


def test_ratios_are_of_one_round():
    found = ways([], {"together": 0.0, "loop": 0.0, "ASE": 0.0})
    for way, wall in zip(found.values(), ([1.0, 2.0], [2.0, 4.0], [3.0, 6.0]), strict=True):
        way.wall = wall
        way.processor = [2.0 * seconds for seconds in wall]
    row = row_of("job", [molecule("H2O")], 5, 6.0, found, 1e-7)
    assert dict(zip(COLUMNS, row, strict=True)) == {
        "job": "job", "structures": 1, "atoms each": "3", "steps": 5,
        "together /s": 4.0, "loop /s": 2.0, "ASE loop /s": pytest.approx(6 / 4.5),
        "together over loop": 2.0, "over ASE loop": 3.0,
        "over loop, processor": 2.0, "over ASE loop, processor": 3.0, "max dE": "1e-07",
    }  # fmt: skip


def test_structures_differ():
    first, second = structures_of("molecules", 2)
    assert len(first) == len(second) == 15
    assert abs(first.positions - second.positions).max() > 0.01
