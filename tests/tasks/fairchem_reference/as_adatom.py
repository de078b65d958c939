"""The random batches as adatom's tasks, batches and predictions."""

from __future__ import annotations

import torch
from random_cases import METRICS, SHAPES, Case, RandomTask, Structure

from adatom.data.atomic_data import AtomicData, collate
from adatom.tasks.task import Normalizer, OutputSpec, Task

#: fairchem's name to ours: it calls the mean length of error vectors a root mean square.
OUR_NAMES = {"rmse": "norm_mae"}


def our_task(task: RandomTask) -> Task:
    loss = {"name": task.loss, "reduction": task.reduction, "coefficient": task.coefficient}
    return Task(
        name=task.name,
        level="atom" if task.property == "forces" else "system",
        property=task.property,
        out_spec=OutputSpec(SHAPES[task.property] or (1,), "float64"),
        normalizer=Normalizer(task.mean, task.rmsd),
        datasets=task.datasets,
        loss_fn=loss | ({"delta": task.delta} if task.loss == "huber" else {}),
        element_references=None if task.references is None else torch.tensor(task.references),
        metrics=[OUR_NAMES.get(name, name) for name in METRICS[task.property]],
        train_on_free_atoms=task.train_on_free_atoms,
        eval_on_free_atoms=task.eval_on_free_atoms,
    )


def our_structure(structure: Structure, sid: int) -> AtomicData:
    n = len(structure.numbers)
    labels = {name: torch.tensor(value) for name, value in structure.labels.items()}
    return AtomicData(
        pos=torch.zeros(n, 3, dtype=torch.float64),
        atomic_numbers=torch.tensor(structure.numbers),
        cell=torch.zeros(1, 3, 3, dtype=torch.float64),
        pbc=torch.zeros(1, 3, dtype=torch.bool),
        natoms=torch.tensor([n]),
        batch=torch.zeros(n, dtype=torch.long),
        charge=torch.zeros(1, dtype=torch.long),
        spin=torch.zeros(1, dtype=torch.long),
        dataset=[structure.dataset],
        tags=torch.zeros(n, dtype=torch.long),
        fixed=torch.tensor(structure.fixed),
        sid=[str(sid)],
        labels={k: v if k == "forces" else v[None] for k, v in labels.items()},
    )


def our_batch(case: Case) -> tuple[AtomicData, dict[str, torch.Tensor]]:
    """Return the batch and its predictions; NaN where the dataset has no task for the property."""
    predictions = {}
    for prop, shape in SHAPES.items():
        rows = [
            torch.tensor(s.predictions[prop]).reshape(-1, *shape)
            if prop in s.predictions
            else torch.full((len(s.numbers) if prop == "forces" else 1, *shape), torch.nan)
            for s in case.structures
        ]
        predictions[prop] = torch.cat(rows).double().requires_grad_()
    return collate([our_structure(s, i) for i, s in enumerate(case.structures)]), predictions
