"""Random batches with every kind of gap, as plain numpy, for adatom and for fairchem alike.

``RandomState`` is numpy's frozen generator: a seed gives the same numbers in every version.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

NUM_CASES = 260
DATASETS = ("alloys", "molecules", "slabs")
MAX_Z = 30

#: Losses and reductions by property. fairchem has the first ones; per-atom MSE, Huber and all other
#: combinations are torch's element-wise functions under fairchem's reduction.
LOSSES = {
    "energy": [
        (loss, reduction)
        for loss in ("mae", "mse", "per_atom_mae", "per_atom_mse", "huber")
        for reduction in ("mean", "sum")
    ],
    "forces": [
        ("l2norm", "mean"),
        ("l2norm", "per_structure"),
        ("l2norm", "sum"),
        ("mae", "mean"),
        ("mae", "sum"),
        ("mse", "mean"),
        ("mse", "sum"),
        ("huber", "mean"),
        ("huber", "sum"),
    ],
    "stress": [
        (loss, reduction)
        for loss in ("mae", "mse", "l2norm", "huber")
        for reduction in ("mean", "sum")
    ],
}

#: Metrics by property, under fairchem's names; its ``rmse`` is our ``norm_mae``.
METRICS = {
    "energy": ["mae", "mse", "per_atom_mae", "per_atom_mse", "energy_within_threshold"],
    "forces": [
        "mae",
        "mse",
        "rmse",
        "cosine_similarity",
        "magnitude_error",
        *(f"forces{axis}_{kind}" for axis in "xyz" for kind in ("mae", "mse")),
    ],
    "stress": ["mae", "mse"],
}
SHAPES: dict[str, tuple[int, ...]] = {"energy": (), "forces": (3,), "stress": (3, 3)}


@dataclass
class RandomTask:
    """What a task of either package is made from."""

    name: str
    property: str
    datasets: list[str]
    mean: float
    rmsd: float
    loss: str
    reduction: str
    coefficient: float
    delta: float
    train_on_free_atoms: bool
    eval_on_free_atoms: bool
    references: np.ndarray | None


@dataclass
class Structure:
    """One system; labels may be NaN or infinite, predictions are in network units."""

    dataset: str
    numbers: np.ndarray
    fixed: np.ndarray
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    predictions: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class Case:
    """A batch, its tasks, and the dataset whose metrics are taken on their own."""

    structures: list[Structure]
    tasks: list[RandomTask]
    one_dataset: str


def random_case(seed: int) -> Case:
    """Make a batch of one to six systems with one to eight atoms of up to three datasets."""
    random = np.random.RandomState(seed)
    datasets = list(DATASETS[: random.randint(1, 4)])
    tasks = _tasks(random, datasets, seed)
    structures = [_structure(random, datasets, tasks) for _ in range(random.randint(1, 7))]
    present = sorted({structure.dataset for structure in structures})
    return Case(structures, tasks, present[random.randint(len(present))])


def _tasks(random: np.random.RandomState, datasets: list[str], seed: int) -> list[RandomTask]:
    tasks: list[RandomTask] = []
    for prop in ("energy", "forces", "stress"):
        served = [d for d in datasets if prop == "energy" or random.rand() < 0.8]
        groups = [served] if random.rand() < 0.5 else [[name] for name in served]
        for group in filter(None, groups):
            loss, reduction = LOSSES[prop][(seed + len(tasks)) % len(LOSSES[prop])]
            referenced = prop == "energy" and random.rand() < 0.7
            tasks.append(
                RandomTask(
                    name=f"{'_'.join(group)}_{prop}",
                    property=prop,
                    datasets=list(group),
                    mean=float(random.randn()) if random.rand() < 0.3 else 0.0,
                    rmsd=float(0.3 + 2.0 * random.rand()),
                    loss=loss,
                    reduction=reduction,
                    coefficient=float(20.0 * random.rand()),
                    delta=float(0.01 + random.rand()),
                    train_on_free_atoms=bool(random.rand() < 0.7),
                    eval_on_free_atoms=bool(random.rand() < 0.7),
                    references=-100.0 * random.rand(MAX_Z + 1) if referenced else None,
                )
            )
    return tasks


def _structure(
    random: np.random.RandomState, datasets: list[str], tasks: list[RandomTask]
) -> Structure:
    count = 1 if random.rand() < 0.25 else random.randint(2, 9)
    out = Structure(
        dataset=datasets[random.randint(len(datasets))],
        numbers=random.randint(1, MAX_Z + 1, count),
        fixed=random.rand(count) < (0.4 if random.rand() < 0.5 else 0.0),
    )
    close = random.rand() < 0.4
    for task in tasks:
        if out.dataset in task.datasets:
            out.labels[task.property], out.predictions[task.property] = _rows(
                random, task, out.numbers, 0.01 if close else 1.0
            )
    return out


def _rows(
    random: np.random.RandomState, task: RandomTask, numbers: np.ndarray, spread: float
) -> tuple[Any, Any]:
    shape = SHAPES[task.property]
    shape = (len(numbers), *shape) if task.property == "forces" else shape
    network = random.randn(*shape)
    label = network * task.rmsd + task.mean
    if task.references is not None:
        label = label + task.references[numbers].sum()
    label = np.asarray(label)
    prediction = network + spread * random.randn(*shape)
    gap = random.rand()
    broken = [np.nan, np.inf, -np.inf][random.randint(3)]
    if gap < 0.2:
        label = np.full(shape, broken)
    elif gap < 0.4 and shape:
        label = np.where(random.rand(*shape) < 0.2, broken, label)
    return label, np.asarray(prediction)
