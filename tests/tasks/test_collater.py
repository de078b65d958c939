"""Batches of several datasets: each system keeps the labels of its own tasks, and only those."""

from __future__ import annotations

import pytest
import torch
from ase.build import molecule

from adatom.core.errors import MissingLabelError, UnknownNameError
from adatom.data.atomic_data import AtomicData
from adatom.tasks.collater import mt_collater_adapter
from adatom.tasks.objective import get_output_mask
from adatom.tasks.task import Normalizer, OutputSpec, Task


def task(dataset: str, prop: str, *, inference_only: bool = False) -> Task:
    level, dim = ("atom", (3,)) if prop == "forces" else ("system", (1,))
    name = f"{dataset}_{prop}"
    spec = OutputSpec(dim)
    return Task(name, level, prop, spec, Normalizer(), [dataset], inference_only=inference_only)


TASKS = [
    task("wet", "energy"),
    task("wet", "forces"),
    task("dry", "energy"),
    task("dry", "forces", inference_only=True),
]


def water(dataset: str, *labels: str) -> AtomicData:
    data = AtomicData.from_ase(molecule("H2O"), sid=f"{dataset}-water", dataset=dataset)
    known = {"energy": torch.ones(1), "forces": torch.ones(3, 3), "stress": torch.ones(1, 3, 3)}
    data.labels = {name: known[name] for name in labels}
    return data


def test_each_system_keeps_the_labels_of_its_tasks():
    whole = water("dry", "energy", "forces", "stress")
    batch = mt_collater_adapter(TASKS)([water("wet", "energy", "forces"), whole])
    assert sorted(batch.labels) == ["energy", "forces"]
    assert batch.labels["energy"].tolist() == [1.0, 1.0]
    assert batch.labels["forces"].isfinite().all(dim=1).tolist() == [True] * 3 + [False] * 3
    assert sorted(whole.labels) == ["energy", "forces", "stress"]


def test_missing_labels_are_masked_or_refused():
    systems = [water("wet", "energy", "forces"), water("wet", "energy")]
    batch = mt_collater_adapter(TASKS)(systems)
    assert get_output_mask(batch, TASKS[1])["wet_forces"].tolist() == [True] * 3 + [False] * 3
    with pytest.raises(MissingLabelError, match="'wet-water' has no label 'forces'"):
        mt_collater_adapter(TASKS, strict=True)(systems)


def test_a_dataset_without_tasks_is_refused():
    with pytest.raises(UnknownNameError, match=r"'wett'.*wet"):
        mt_collater_adapter(TASKS)([water("wett", "energy")])
