"""A small labelled set and a toy network, so that a whole training takes a second."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from adatom.core.precision import deterministic

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


@pytest.fixture(scope="session")
def copper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 24 distorted cells of 4 to 8 copper atoms with energies and forces of EMT."""
    rng = np.random.default_rng(0)
    frames = []
    for i in range(24):
        atoms = bulk("Cu", cubic=True) * (1, 1, 1 + i % 2)
        strain = np.eye(3) + 0.03 * rng.standard_normal((3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += 0.1 * rng.standard_normal(atoms.positions.shape)
        atoms.calc = EMT()
        labels = {
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces(),
            "stress": atoms.get_stress(),
        }
        atoms.calc = SinglePointCalculator(atoms, **labels)
        atoms.info["sid"] = f"cu{i}"
        frames.append(atoms)
    path = tmp_path_factory.mktemp("data") / "copper.extxyz"
    write(path, frames)
    return path


_DEFAULTS = {
    "trainer": "{max_epochs: 3, deterministic: true}",
    "checkpoint": "{every_steps: 2}",
    "logging": "{every_n_steps: 1}",
    "report": "false",
}


@pytest.fixture(autouse=True)
def process_state() -> Iterator[None]:
    """Undo what a command may set for its whole process."""
    with deterministic(), torch.random.fork_rng():
        torch.use_deterministic_algorithms(mode=False)
        yield


@pytest.fixture(scope="session")
def config(copper: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes a configuration file of a toy training (18 steps)."""

    def write_config(name: str = "toy", **extra: str) -> Path:
        lines = [
            "model:",
            "  backbone: {class_path: toy_backbone.ToyBackbone}",
            "  head: {class_path: toy_backbone.ToyHead}",
            "  lr: 0.01",
            "data:",
            f"  train: {copper}",
            "  val_fraction: 0.25",
            "  batch_size: 3",
            *[f"{key}: {value}" for key, value in (_DEFAULTS | extra).items()],
        ]
        path = tmp_path_factory.mktemp("config") / f"{name}.yaml"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write_config
