"""Two processes, replicated or sharded, train as one process with twice the batch does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ase.io import read, write
from processes import Scenario, together, train

from adatom.data.atomic_data import AtomicData
from adatom.models.base import NodeFeatures
from adatom.models.energy_head import EnergyHead
from adatom.models.escn_md import eSCNMDBackbone
from adatom.models.heads import Heads
from adatom.training.data_module import AtomisticDataModule
from adatom.training.sources import DataSource
from adatom.training.tasks_from_data import TaskSpec
from adatom.training.train_strategy import TrainStrategy
from adatom.training.train_unit import MLIPTrainEvalUnit
from toy_backbone import ToyBackbone, ToyHead

Parts = tuple[MLIPTrainEvalUnit, AtomisticDataModule, dict[str, Any]]


def sources(folder: Path) -> list[str | DataSource]:
    return [
        DataSource(path=str(folder / "all.extxyz"), dataset="all"),
        DataSource(path=str(folder / "some.extxyz"), dataset="some"),
    ]


MAPPING = {"all": "first", "some": "second"}
TASKS = [
    TaskSpec(
        name=f"{name}_energy",
        property="energy",
        datasets=[name],
        loss_fn={"name": "per_atom_mae", "coefficient": 20.0},
    )
    for name in ("all", "some")
] + [
    TaskSpec(name="forces", property="forces", loss_fn={"name": "l2norm", "coefficient": 2.0}),
    TaskSpec(
        name="stress",
        property="stress",
        datasets=["all"],
        loss_fn={"name": "mae", "reduction": "per_structure"},
    ),
]


def with_missing_labels(folder: Path, world: int) -> Parts:
    """Two datasets, of which one has few forces and no stress; the last steps are uneven."""
    backbone, head = ToyBackbone(num_channels=9).double(), ToyHead(9, 1.0).double()
    unit = MLIPTrainEvalUnit(backbone, head, tasks=TASKS, lr=0.02, ema_decay=0.5)
    data = AtomisticDataModule(
        sources(folder), batch_size=4 // world, val_fraction=0.25, check=False
    )
    return unit, data, {"max_epochs": 2}


def accumulated(folder: Path, world: int) -> Parts:
    """Two batches per step, the last step of the epoch with one."""
    unit, _, _ = with_missing_labels(folder, world)
    data = AtomisticDataModule(
        sources(folder), batch_size=4 // world, val_fraction=0.0, check=False
    )
    return unit, data, {"max_epochs": 1, "accumulate_grad_batches": 2}


def at_once(folder: Path, world: int) -> Parts:
    """What ``accumulated`` does, with batches that are large enough."""
    unit, _, _ = with_missing_labels(folder, world)
    data = AtomisticDataModule(
        sources(folder), batch_size=8 // world, val_fraction=0.0, check=False
    )
    return unit, data, {"max_epochs": 1}


def lazily(folder: Path, world: int) -> Parts:
    """Two processes read what they need from the files; one alone has everything in memory."""
    unit, _, more = with_missing_labels(folder, world)
    data = AtomisticDataModule(
        sources(folder),
        batch_size=4 // world,
        max_edges=4000 // world,
        val_fraction=0.25,
        in_memory=world == 1,
        check=False,
    )
    return unit, data, more


def direct_with_experts(folder: Path, world: int) -> Parts:
    """What UMA's pre-training has: experts, several datasets, forces from a head."""
    width = {"sphere_channels": 8, "hidden_channels": 8, "edge_channels": 8}
    backbone = eSCNMDBackbone(
        **width, num_distance_basis=8, cutoff=4.0, num_experts=3, dataset_list=["all", "some"]
    )
    energy = {"num_channels": 8, "hidden_channels": 8, "dataset_mapping": MAPPING}
    heads = {
        "energy": {"class_path": "EnergyHead", "init_args": energy},
        "forces": {"class_path": "ForceHead", "init_args": {"num_channels": 8}},
    }
    unit = MLIPTrainEvalUnit(backbone.double(), Heads(heads).double(), tasks=TASKS[:3], lr=0.01)
    data = AtomisticDataModule(
        sources(folder), batch_size=4 // world, val_fraction=0.0, check=False
    )
    return unit, data, {"max_epochs": 1}


def conserving_with_experts(folder: Path, world: int) -> Parts:
    """The same network with forces and stress by double backward."""
    unit, data, more = direct_with_experts(folder, world)
    head = EnergyHead(8, 8, dataset_mapping=MAPPING).double()
    return MLIPTrainEvalUnit(unit.backbone, head, tasks=TASKS, lr=0.01), data, more


def forces_alone(folder: Path, world: int) -> Parts:
    """No loss depends on the last bias of the energy head."""
    unit, data, more = accumulated(folder, world)
    head = ToyHead(9, 1.0).double()
    return MLIPTrainEvalUnit(unit.backbone, head, losses={"forces": {"name": "mae"}}), data, more


class BrokenHead(ToyHead):
    def forward(self, features: NodeFeatures, data: AtomicData) -> dict[str, torch.Tensor]:
        energies = super().forward(features, data)["energies"]
        bad = torch.tensor([sid == "cu3" for sid in data.sid])[data.batch]
        return {"energies": torch.where(bad, torch.nan, energies)}


def broken(folder: Path, world: int) -> Parts:
    """One structure has no finite energy, so only one process sees it."""
    _, data, more = accumulated(folder, world)
    return MLIPTrainEvalUnit(ToyBackbone(), BrokenHead(), tasks=TASKS), data, more


class WastefulHead(ToyHead):
    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Linear(2, 2)


def wasteful(folder: Path, world: int) -> Parts:
    """Some parameters are never used."""
    _, data, more = accumulated(folder, world)
    return MLIPTrainEvalUnit(ToyBackbone(), WastefulHead(), tasks=TASKS), data, more


EQUAL = [
    with_missing_labels,
    accumulated,
    at_once,
    lazily,
    direct_with_experts,
    conserving_with_experts,
    forces_alone,
]


@pytest.fixture(scope="module")
def folder(copper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 8 structures with all labels and 7 with energies, of which 2 have forces."""
    folder = tmp_path_factory.mktemp("processes")
    frames = read(copper, ":15")
    for i, atoms in enumerate(frames[8:]):
        del atoms.calc.results["stress"]
        if i > 1:
            del atoms.calc.results["forces"]
    write(folder / "all.extxyz", frames[:8])
    write(folder / "some.extxyz", frames[8:])
    return folder


@pytest.fixture(scope="module")
def both(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Train everything in two processes; starting them takes longer than the trainings."""
    return together([*EQUAL, broken, wasteful], folder, TrainStrategy.DDP)


SHARDED = [with_missing_labels, accumulated, conserving_with_experts]


@pytest.fixture(scope="module")
def sharded(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Train with weights of which each process holds a part."""
    return together([*SHARDED, wasteful], folder, TrainStrategy.FSDP)


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert "error" not in ours, ours["error"]
    assert len(ours["steps"]) == len(theirs["steps"]) > 1
    for mine, reference in zip(ours["steps"], theirs["steps"], strict=True):
        assert mine == pytest.approx(reference, rel=1e-8, abs=1e-10)
    assert ours["results"] == pytest.approx(theirs["results"], rel=1e-8)
    assert ours["weights"] == pytest.approx(theirs["weights"], rel=1e-8)


@pytest.mark.parametrize("scenario", EQUAL)
def test_two_processes_equal_one(
    both: dict[str, list[dict[str, Any]]], scenario: Scenario, folder: Path
) -> None:
    alone = train(scenario, folder)
    for found in both[scenario.__name__]:
        assert_same(found, alone)


@pytest.mark.parametrize("scenario", SHARDED)
def test_two_processes_with_parts_of_the_weights_equal_one(
    sharded: dict[str, list[dict[str, Any]]], scenario: Scenario, folder: Path
) -> None:
    alone = train(scenario, folder)
    for found in sharded[scenario.__name__]:
        assert_same(found, alone)


def test_only_what_is_labelled_is_measured(both: dict[str, list[dict[str, Any]]]) -> None:
    results = set(both["with_missing_labels"][0]["results"])
    assert {"val/all/stress_mae", "val/some/energy_per_atom_mae", "val/loss"} <= results
    assert "val/some/stress_mae" not in results


def test_several_batches_per_step_equal_one_large_batch(
    both: dict[str, list[dict[str, Any]]],
) -> None:
    assert_same(both["accumulated"][0], both["at_once"][1])


def test_all_processes_stop_at_a_loss_that_is_not_finite(
    both: dict[str, list[dict[str, Any]]], folder: Path
) -> None:
    errors = [found["error"] for found in both["broken"]]
    assert all("NonFiniteError: At step" in error for error in errors)
    assert sum("in another process" in error for error in errors) == 1
    assert sum("with structure 'cu3';" in error for error in errors) == 1
    saved = list(folder.glob("non_finite_batch_rank*.extxyz"))
    assert len(saved) == 1
    assert "cu3" in {atoms.info["sid"] for atoms in read(saved[0], ":")}


def test_a_parameter_without_gradient_is_named(
    both: dict[str, list[dict[str, Any]]], sharded: dict[str, list[dict[str, Any]]]
) -> None:
    for found in both["wasteful"] + sharded["wasteful"]:
        assert "does not depend on the parameters head.unused.weight" in found["error"]
