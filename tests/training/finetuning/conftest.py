"""A small base with experts and two levels of theory, and structures for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from ase.io import read, write

from adatom.checkpoint.format import save_potential
from adatom.core.precision import seeded
from adatom.data.atomic_data import AtomicData
from adatom.models.energy_head import EnergyHead
from adatom.models.escn_md import eSCNMDBackbone
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task
from adatom.training.finetuning.predictions import read_systems
from adatom.training.sources import DataSource

sys.path.insert(0, str(Path(__file__).resolve().parent))


def small_tasks(dataset: str) -> list[Task]:
    """Return energy and forces of a dataset."""
    table = torch.zeros(119, dtype=torch.float64)
    table[29] = -0.5
    scale = Normalizer(0.0, 0.7)
    energy, forces = OutputSpec((1,), "float64"), OutputSpec((3,))
    return [
        Task(
            f"{dataset}_energy",
            "system",
            "energy",
            energy,
            scale,
            [dataset],
            element_references=table,
        ),
        Task(f"{dataset}_forces", "atom", "forces", forces, scale, [dataset]),
    ]


@pytest.fixture
def small() -> Potential:
    """Return an untrained network of 29000 parameters that knows ``emt`` and ``other``."""
    with seeded(0):
        backbone = eSCNMDBackbone(
            sphere_channels=8,
            hidden_channels=8,
            edge_channels=8,
            num_distance_basis=8,
            num_layers=1,
            cutoff=4.0,
            max_num_elements=40,
            num_experts=3,
            dataset_list=["emt", "other"],
        )
        head = EnergyHead(8, 8)
    domain = Domain((29,), (0,), (0,))
    tasks = [*small_tasks("emt"), *small_tasks("other")]
    return Potential(backbone, head, tasks, {"emt": domain, "other": domain})


@pytest.fixture
def base(small: Potential, tmp_path: Path) -> Path:
    """Return the checkpoint of :func:`small`."""
    path = tmp_path / "base.safetensors"
    save_potential(small, path)
    return path


@pytest.fixture
def shifted(copper: Path, tmp_path: Path) -> Path:
    """Return the copper set at another level of theory: -100 eV per atom, 1.2 times the forces."""
    frames = read(copper, ":")
    for atoms in frames:
        atoms.calc.results["energy"] = 1.2 * atoms.calc.results["energy"] - 100.0 * len(atoms)
        atoms.calc.results["forces"] = 1.2 * atoms.calc.results["forces"]
        del atoms.calc.results["stress"]
    path = tmp_path / "shifted.extxyz"
    write(path, frames)
    return path


@pytest.fixture
def systems(copper: Path) -> list[AtomicData]:
    """Return six structures of dataset ``emt``."""
    return read_systems([DataSource(path=str(copper), dataset="emt", index=":6")])
