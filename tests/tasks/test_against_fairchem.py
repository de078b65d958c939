"""Losses, gradients, masks and metrics of 260 random batches equal fairchem's own functions.

The numbers come from fairchem-core 2.24.0; ``fairchem_reference/make.py`` says how. The batches
have single atoms, fixed atoms, several datasets with their own properties, missing and infinite
labels, parts of labels, normalizers and element references, in every loss, reduction and metric.
Where fairchem is wrong, ``test_fairchem_defects.py`` has the right value.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from adatom.tasks.objective import compute_loss, compute_metrics, get_output_masks
from adatom.tasks.task import Task

sys.path.insert(0, str(Path(__file__).resolve().parent / "fairchem_reference"))
from as_adatom import our_batch, our_task
from random_cases import NUM_CASES, SHAPES, Case, random_case

REFERENCE = Path(__file__).resolve().parent / "fairchem_reference" / "reference.npz"
TOLERANCE = {"rel": 1e-6, "abs": 1e-9}


@pytest.fixture(scope="module")
def reference() -> dict[str, list[float]]:
    with np.load(REFERENCE) as file:
        return {name: file[name].tolist() for name in file.files}


@pytest.fixture(scope="module")
def cases() -> list[tuple[Case, list[Task]]]:
    all_cases = [random_case(seed) for seed in range(NUM_CASES)]
    return [(case, [our_task(task) for task in case.tasks]) for case in all_cases]


def test_losses_and_their_gradients(cases, reference) -> None:
    losses, gradients = [], []
    for case, tasks in cases:
        batch, predictions = our_batch(case)
        for name, loss in compute_loss(tasks, predictions, batch).items():
            prop = next(task.property for task in tasks if task.name == name)
            (gradient,) = torch.autograd.grad(loss.value, predictions[prop])
            losses.append(float(loss.value.detach()))
            gradients.append(float(gradient.norm()))
    assert losses == pytest.approx(reference["losses"], **TOLERANCE)
    assert gradients == pytest.approx(reference["gradients"], **TOLERANCE)


def test_masks(cases, reference) -> None:
    sizes = []
    for case, tasks in cases:
        masks = get_output_masks(our_batch(case)[0], tasks)
        sizes += [int(mask.sum()) for _, mask in sorted(masks.items())]
    assert sizes == reference["masks"]


def test_metrics(cases, reference) -> None:
    totals, counts = [], []
    for case, tasks in cases:
        batch, predictions = our_batch(case)
        for task in tasks:
            for dataset in (None, case.one_dataset):
                if dataset is not None and dataset not in task.datasets:
                    found = dict.fromkeys(task.metrics)
                else:
                    found = compute_metrics(task, predictions, batch, dataset)
                totals += [0.0 if m is None else float(m.total) for m in found.values()]
                counts += [0.0 if m is None else float(m.count) for m in found.values()]
    assert counts == reference["metric_counts"]
    # The cosine is computed in single precision there.
    assert totals == pytest.approx(reference["metric_totals"], rel=1e-6, abs=1e-6)


def test_energy_and_forces_within_threshold(cases, reference) -> None:
    found = []
    for case, tasks in cases:
        batch, predictions = our_batch(case)
        sums = torch.zeros(2)
        for task in tasks:
            if task.property == "energy":
                task.metrics = ["energy_forces_within_threshold"]
                with_forces = {
                    name for other in tasks if other.property == "forces" for name in other.datasets
                }
                for dataset in sorted(set(task.datasets) & with_forces):
                    (metric,) = compute_metrics(
                        task, predictions, batch, dataset, tasks=tasks
                    ).values()
                    sums += torch.stack([metric.total, metric.count])
        found.append(sums.tolist())
    assert found == reference["threshold_success"]
    assert sum(right for right, _ in found) > 20


def test_the_cases_have_what_they_promise(cases) -> None:
    structures = [s for case, _ in cases for s in case.structures]
    losses = Counter((t.property, t.loss, t.reduction) for case, _ in cases for t in case.tasks)
    assert len(losses) == 27
    assert min(losses.values()) >= 5
    assert sum(len(s.numbers) == 1 for s in structures) > 200
    assert sum(s.fixed.any() for s in structures) > 100
    assert sum(s.fixed.all() for s in structures) > 10
    assert sum(len({s.dataset for s in case.structures}) > 1 for case, _ in cases) > 50
    for prop in SHAPES:
        labels = [s.labels[prop] for s in structures if prop in s.labels]
        assert sum(not np.isfinite(label).any() for label in labels) > 50
        assert sum(bool(np.isnan(label).any()) for label in labels) > 20
        assert sum(bool(np.isinf(label).any()) for label in labels) > 20
        if prop != "energy":
            assert sum(0 < np.isfinite(x).mean() < 1 for x in labels) > 50
