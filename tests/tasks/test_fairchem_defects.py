"""Where fairchem-core 2.24.0 is wrong, adatom has the right value.

Each test has the right value by hand, and what fairchem's own function gave on the same batch
(``fairchem_reference/make_defects.py``).
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import ase
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator

from adatom.data.atomic_data import AtomicData, collate
from adatom.tasks.metrics import MetricSum
from adatom.tasks.objective import compute_loss, compute_metrics
from adatom.tasks.targets import task_target
from adatom.tasks.task import Normalizer, OutputSpec, Task

sys.path.insert(0, str(Path(__file__).resolve().parent / "fairchem_reference"))
from as_adatom import our_batch, our_task
from defect_cases import defect_cases

FILE = Path(__file__).resolve().parent / "fairchem_reference" / "defects.json"
THEIRS: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
CASES = defect_cases()


def loss_and_gradient(name: str) -> tuple[float, torch.Tensor]:
    case = CASES[name]
    task = our_task(case.tasks[0])
    batch, predictions = our_batch(case)
    loss = compute_loss([task], predictions, batch)[task.name].value
    (gradient,) = torch.autograd.grad(loss, predictions[task.property])
    return float(loss.detach()), gradient


def metric(name: str, metric_name: str) -> float:
    case = CASES[name]
    task = our_task(case.tasks[0])
    task.metrics = [metric_name]
    batch, predictions = our_batch(case)
    return compute_metrics(task, predictions, batch)[metric_name].value


@pytest.mark.parametrize(
    ("name", "right"),
    [("rmse of forces", math.sqrt(26 / 6)), ("rmse of energies", 1.0)],
)
def test_rmse_is_the_root_of_the_mean_square(name: str, right: float) -> None:
    assert metric(name, "rmse") == pytest.approx(right)
    assert abs(THEIRS[name] - right) > 0.5


@pytest.mark.parametrize(("kind", "right"), [("mae", 8 / 6), ("mse", 26 / 6)])
def test_losses_of_force_components_take_a_mask_of_atoms(kind: str, right: float) -> None:
    assert loss_and_gradient(f"{kind} loss of forces")[0] == pytest.approx(right)
    assert THEIRS[f"{kind} loss of forces"] == "RuntimeError"


def test_with_three_atoms_the_mask_is_not_taken_for_components() -> None:
    loss, gradient = loss_and_gradient("mae loss of three forces")
    assert loss == pytest.approx((2 + 4) / 6)  # the first atom is fixed
    assert not gradient[0].any()
    assert THEIRS["mae loss of three forces"]["loss"] == pytest.approx(11 / 6)


def test_the_norm_of_a_stress_counts_labelled_systems_only() -> None:
    assert loss_and_gradient("l2norm loss of two stresses")[0] == pytest.approx(3.0)
    assert THEIRS["l2norm loss of two stresses"] == "RuntimeError"
    assert loss_and_gradient("l2norm loss of nine stresses")[0] == pytest.approx(3.0)
    assert THEIRS["l2norm loss of nine stresses"]["loss"] == pytest.approx(30 / 9)


def test_energies_can_be_reduced_per_structure() -> None:
    assert loss_and_gradient("energies per structure")[0] == pytest.approx(1.0)
    assert THEIRS["energies per structure"] == "RuntimeError"


def test_a_structure_without_error_counts_as_one() -> None:
    assert loss_and_gradient("an exact structure")[0] == pytest.approx((0 + 5) / 2)
    assert THEIRS["an exact structure"]["loss"] == pytest.approx(5.0)


def test_a_broken_prediction_without_a_label_reaches_nothing() -> None:
    name = "a broken prediction without a label"
    loss, gradient = loss_and_gradient(name)
    assert loss == pytest.approx(5.0)
    assert gradient.tolist() == [[0.6, 0.8, 0.0], [0.0, 0.0, 0.0]]
    assert THEIRS[name]["loss"] == 0.0
    assert math.isnan(THEIRS[name]["gradient"][1][0])


def test_a_broken_prediction_shows_in_the_loss() -> None:
    assert math.isnan(loss_and_gradient("a broken prediction")[0])
    assert THEIRS["a broken prediction"]["loss"] == 0.0  # with a gradient of NaN
    assert math.isnan(THEIRS["a broken prediction"]["gradient"][0][0])
    assert math.isinf(loss_and_gradient("an infinite prediction")[0])
    assert math.isfinite(THEIRS["an infinite prediction"]["loss"])


def test_atoms_without_a_force_have_no_cosine() -> None:
    assert metric("a force without direction", "cosine_similarity") == pytest.approx(1.0)
    assert THEIRS["a force without direction"] == pytest.approx(0.5)


def test_a_task_of_forces_may_have_any_name() -> None:
    name = "forces under another name"
    loss, gradient = loss_and_gradient(name)
    assert loss == pytest.approx(5.0)  # two of the three atoms lack a part of their label
    assert not gradient[1:].any()
    assert THEIRS[name]["loss"] != pytest.approx(5.0)


def test_nothing_labelled_adds_nothing() -> None:
    total = MetricSum()
    total += MetricSum()
    assert math.isnan(total.value)
    assert THEIRS["two empty batches"] == "ZeroDivisionError"
    total += MetricSum.of(torch.tensor([1.0, 2.0]))
    total += MetricSum.of(torch.empty(0))
    assert total.value == 1.5


def test_large_energies_keep_their_digits() -> None:
    atoms = ase.Atoms("O")
    atoms.calc = SinglePointCalculator(atoms, energy=-100000.0012345)
    references = torch.full((9,), -100000.0, dtype=torch.float64)
    task = Task(
        "one_energy", "system", "energy", OutputSpec((1,)), Normalizer(), ["one"],
        element_references=references,
    )  # fmt: skip
    target = task_target(task, AtomicData.from_ase(atoms, sid="o", dataset="one"))
    assert float(target.values) == pytest.approx(-0.0012345, abs=1e-9)
    assert THEIRS["large energy"] == 0.0


def two_systems(energy_error: float, force_errors: list[float]) -> tuple[AtomicData, dict, list]:
    """One system with one free and one fixed atom for each force error; labels are zero."""
    systems = []
    for i, _ in enumerate(force_errors):
        data = AtomicData.from_ase(ase.Atoms("OO", [[0, 0, 0], [0, 0, 1.2]]), sid=str(i))
        data.fixed = torch.tensor([False, True])
        data.labels = {"energy": torch.zeros(1).double(), "forces": torch.zeros(2, 3).double()}
        systems.append(data)
    forces = torch.zeros(len(systems), 2, 3).double()
    forces[:, 0, 1] = torch.tensor(force_errors) / 2.0  # in network units
    forces[:, 1] = 7.0  # of fixed atoms
    energies = torch.full((len(systems),), energy_error / 4.0).double()
    tasks = [
        Task(
            "e", "system", "energy", OutputSpec((1,)), Normalizer(0.0, 4.0), ["default"],
            metrics=["energy_forces_within_threshold"],
        ),
        Task("f", "atom", "forces", OutputSpec((3,)), Normalizer(0.0, 2.0), ["default"]),
    ]  # fmt: skip
    return collate(systems), {"energy": energies, "forces": forces.view(-1, 3)}, tasks


@pytest.mark.parametrize(("energy_error", "right"), [(0.019, 2 / 3), (-0.021, 0.0)])
def test_energy_and_forces_within_threshold_is_a_metric(energy_error: float, right: float) -> None:
    batch, predictions, tasks = two_systems(energy_error, [0.029, -0.031, 0.0])
    found = compute_metrics(tasks[0], predictions, batch, tasks=tasks)
    assert found["energy_forces_within_threshold"].value == pytest.approx(right)
    assert THEIRS["energy_forces_within_threshold"] == "KeyError"


def test_energy_and_forces_count_where_both_are_labelled() -> None:
    batch, predictions, tasks = two_systems(0.0, [0.0, 0.0, 0.0])
    batch.labels["forces"][0] = torch.nan  # a free atom
    batch.labels["forces"][3] = torch.nan  # a fixed one
    batch.labels["energy"][2] = torch.nan
    predictions["forces"][2] = torch.nan  # broken: wrong, but counted
    found = compute_metrics(tasks[0], predictions, batch, tasks=tasks)
    total = found["energy_forces_within_threshold"]
    assert (float(total.total), float(total.count)) == (0.0, 1.0)
