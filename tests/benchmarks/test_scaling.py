import sys
from pathlib import Path

import pytest

# The benchmarks are not installed; "pytest" alone does not look into the working directory.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.scaling import COLUMNS, measured_row, traffic_of
from benchmarks.scaling_model import (
    PUBLISHED,
    Traffic,
    communication_seconds,
    halo_atoms,
    step_seconds,
)


def test_a_worker_of_uma_s_sends_nine_times_128_numbers_per_atom_and_layer():
    traffic = traffic_of("uma-s", 25)
    assert traffic == Traffic(row_bytes=4608, layers=4, exchanges=12, sums=13)


def test_halo_is_a_shell_around_a_cube():
    # Cubes of 500 atoms of fcc carbon, 19 angstrom wide; two layers of atoms are within 4 angstrom.
    density = 4 / 3.8**3
    faces, with_corners = 6 * 19**2 * 3.8, 27**3 - 19**3
    assert faces * density < halo_atoms(500, 8, 4.0) < with_corners * density


def test_communication_grows_with_the_halo_and_with_the_workers():
    traffic = traffic_of("uma-s", 25)
    seconds = [
        communication_seconds(traffic, halo, workers, 1000 * workers)
        for halo, workers in ((0, 8), (2000, 8), (2000, 16), (2000, 256))
    ]
    assert seconds == sorted(seconds)
    assert seconds[0] > traffic.exchanges * 1e-5


def test_published_steps_are_in_the_right_unit():
    # 25 steps of 1 fs per second are 2.16 ns per day.
    assert step_seconds(2.16) == pytest.approx(0.04)
    assert all(sorted(of) == list(of) for of in PUBLISHED.values())


def test_the_slowest_worker_is_in_the_table():
    statistics = {
        "mode": "tiled", "own_atoms": 3, "halo_atoms": 1, "edges": 9, "sent_bytes": 2_000_000,
        "exchanges": 7,
    }  # fmt: skip
    worker = {
        "atoms": 5, "wall": [2.0, 1.0], "cpu": [0.5, 0.4], "loaded": 0.3, "peak": 0.1,
        "statistics": statistics,
    }  # fmt: skip
    other = {**worker, "cpu": [0.9, 0.8], "statistics": {**statistics, "edges": 11}}
    row = dict(zip(COLUMNS, measured_row("x", [worker, other]), strict=True))
    assert row["workers"] == 2
    assert row["best s per step"] == 1.0
    assert row["processor s per worker and step"] == 0.8
    assert row["edges of a worker"] == 11
    assert row["MB sent by a worker per step"] == 2.0
