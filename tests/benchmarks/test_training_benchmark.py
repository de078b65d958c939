"""The benchmark of training measures what it says, on a training that takes a second."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from adatom.cli.s2ef import main
from adatom.core.precision import deterministic

# The benchmarks are not installed; "pytest" alone does not look into the working directory.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import training

TINY = {
    "sphere_channels": 8,
    "hidden_channels": 8,
    "edge_channels": 8,
    "num_layers": 1,
    "num_experts": 0,
    "num_distance_basis": 8,
    "cutoff": 4.0,
    "max_neighbors": 10,
}


@pytest.fixture(autouse=True)
def process_state() -> Iterator[None]:
    """Undo what a command may set for its whole process."""
    with deterministic(), torch.random.fork_rng():
        torch.use_deterministic_algorithms(mode=False)
        yield


@pytest.fixture
def copper(tmp_path: Path) -> Path:
    """Write 12 distorted cells of copper with energies and forces of EMT."""
    frames = []
    for seed in range(12):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    path = tmp_path / "copper.extxyz"
    write(path, frames)
    return path


@pytest.mark.parametrize("reading", ["in memory", "read for each batch"])
def test_steps_of_a_training_are_timed_beside_bare_ones(
    reading: str, copper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(training.SHAPES, "tiny", TINY)
    options = training.parse(
        ["--checkpoint", "tiny", "--data", str(copper), "--count", "2", "--fit-steps", "9"]
    )
    assert options.mace == "none"  # there is no MACE of that name
    times, file = tmp_path / "times.json", tmp_path / "fit.yaml"
    config = training.fit_config(options, times, reading)
    file.write_text(yaml.safe_dump(config | {"report": False}))
    main(["fit", "--config", str(file), "--run_dir", str(tmp_path / "run")])
    found = json.loads(times.read_text())
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(
        ("trainer", "between", "bare"), 3
    )
    for whole, between, bare in zip(*found.values(), strict=True):
        assert 0 < between < whole
        assert bare > 0


def test_overhead_is_that_of_pairs_of_steps() -> None:
    seconds = {"trainer": [1.1, 2.2, 3.3], "between": [0.0, 0.0, 0.066], "bare": [1.0, 2.0, 3.0]}
    row = training._fit_row("in memory", seconds)
    assert row[:2] == ["in memory", 3]
    assert row[2:4] == [pytest.approx(2200.0), pytest.approx(2000.0)]
    assert row[4:] == ["10.0 %", 0.0, "1.00 %"]


def test_mace_is_measured_beside_the_others_and_its_values_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "model.pt"
    checkpoint.touch()
    options = training.parse(["--checkpoint", str(checkpoint), "--mace", "small", "--count", "3"])
    found = training.jobs(options)
    assert [job.program for job in found] == ["adatom", "fairchem", "mace"]
    assert {(job.call, job.count, job.structure) for job in found} == {
        ("step", 3, str(options.data))
    }
    monkeypatch.setenv("ADATOM_MACE_PYTHON", sys.executable)
    assert training.parse([]).mace == "small"
    assert training.parse(["--mace", "none"]).mace == "none"
