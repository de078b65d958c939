"""Make ``reference.npz``: losses and metrics of random batches as fairchem computes them.

Needs fairchem-core 2.24.0:
``.venv-fairchem/bin/python tests/tasks/fairchem_reference/make.py``. The default dtype is float64,
so that fairchem's own accumulators do not round.

Its functions ``compute_loss``, ``compute_metrics`` and ``get_output_masks`` are called as they are.
The losses alone have help: its MAE and MSE of forces cannot be multiplied with a mask of atoms
(see the tests of defects), so the mask is given every component; its L2 norm of a stress is given a
mask of systems; and Huber and per-atom MSE, which it lacks, are torch's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch
from fairchem.core.modules.loss import DDPMTLoss, L2NormLoss, MAELoss, MSELoss, PerAtomMAELoss
from fairchem.core.modules.normalization.element_references import ElementReferences
from fairchem.core.modules.normalization.normalizer import Normalizer
from fairchem.core.units.mlip_unit import _metrics
from fairchem.core.units.mlip_unit.mlip_unit import (
    OutputSpec,
    Task,
    compute_loss,
    compute_metrics,
    get_output_masks,
)
from random_cases import METRICS, NUM_CASES, Case, RandomTask, Structure, random_case
from torch import nn

SPECS = {"energy": ("system", [1]), "forces": ("atom", [3]), "stress": ("system", [1, 9])}


class PerAtomMSE(nn.Module):
    """``((p - t) / n)^2``."""

    def forward(
        self, pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        """Return one value per row."""
        natoms = natoms.view(pred.shape)
        return nn.functional.mse_loss(pred / natoms, target / natoms, reduction="none")


class Huber(nn.Module):
    """torch's Huber loss, of energies per atom."""

    def __init__(self, delta: float, *, per_atom: bool) -> None:
        super().__init__()
        self.delta = delta
        self.per_atom = per_atom

    def forward(
        self, pred: torch.Tensor, target: torch.Tensor, natoms: torch.Tensor
    ) -> torch.Tensor:
        """Return one value per component."""
        if self.per_atom:
            pred, target = pred / natoms.view(pred.shape), target / natoms.view(pred.shape)
        return nn.functional.huber_loss(pred, target, reduction="none", delta=self.delta)


class Masked(DDPMTLoss):
    """With a mask of the shape that the loss has."""

    def forward(
        self,
        input: torch.Tensor,  # noqa: A002 - fairchem's name
        target: torch.Tensor,
        mult_mask: torch.Tensor,
        natoms: torch.Tensor,
    ) -> torch.Tensor:
        """Reduce as usual."""
        if isinstance(self.loss_fn, L2NormLoss):
            mult_mask = mult_mask if mult_mask.dim() == 1 else mult_mask.all(dim=1)
        elif mult_mask.dim() == 1 and input.shape[1] == 3:
            mult_mask = mult_mask[:, None].expand(input.shape)
        return super().forward(input, target, mult_mask, natoms)


def their_loss(task: RandomTask) -> nn.Module:
    """Return the loss of a task."""
    elements = {
        "mae": MAELoss,
        "mse": MSELoss,
        "l2norm": L2NormLoss,
        "per_atom_mae": PerAtomMAELoss,
        "per_atom_mse": PerAtomMSE,
        "huber": lambda: Huber(task.delta, per_atom=task.property == "energy"),
    }
    return Masked(elements[task.loss](), task.reduction, task.coefficient)


def their_task(task: RandomTask) -> Task:
    """Return the task as fairchem's."""
    level, dim = SPECS[task.property]
    references = None
    if task.references is not None:
        references = ElementReferences(torch.tensor(task.references))
    return Task(
        name=task.name,
        level=level,
        property=task.property,
        out_spec=OutputSpec(dim=dim, dtype="float64"),
        normalizer=Normalizer(mean=task.mean, rmsd=task.rmsd),
        datasets=task.datasets,
        loss_fn=their_loss(task),
        element_references=references,
        metrics=METRICS[task.property],
        train_on_free_atoms=task.train_on_free_atoms,
        eval_on_free_atoms=task.eval_on_free_atoms,
    )


def rows(values: dict[str, np.ndarray], prop: str, natoms: int, missing: float) -> torch.Tensor:
    """Return one structure's value as fairchem has it, filled where there is none."""
    shape = {"energy": (1,), "forces": (natoms, 3), "stress": (1, 9)}[prop]
    if prop not in values:
        return torch.full(shape, missing)
    return torch.tensor(values[prop]).reshape(shape)


def their_structure(structure: Structure, tasks: list[RandomTask]) -> AtomicData:
    """Return a structure with one attribute for each task; infinite where it has no label."""
    n = len(structure.numbers)
    data = AtomicData(
        pos=torch.zeros(n, 3),
        atomic_numbers=torch.tensor(structure.numbers),
        cell=torch.eye(3)[None],
        pbc=torch.zeros(1, 3, dtype=torch.bool),
        natoms=torch.tensor([n]),
        edge_index=torch.zeros(2, 0, dtype=torch.long),
        cell_offsets=torch.zeros(0, 3),
        nedges=torch.tensor([0]),
        charge=torch.tensor([0]),
        spin=torch.tensor([0]),
        fixed=torch.tensor(structure.fixed).long(),
        tags=torch.zeros(n, dtype=torch.long),
        dataset=structure.dataset,
    )
    for task in tasks:
        labels = structure.labels if structure.dataset in task.datasets else {}
        data[task.name] = rows(labels, task.property, n, torch.inf)
    return data


def their_batch(case: Case) -> tuple[AtomicData, dict[str, dict[str, torch.Tensor]]]:
    """Return the batch and its predictions by task and property."""
    batch = atomicdata_list_to_batch([their_structure(s, case.tasks) for s in case.structures])
    batch.dataset_name = [structure.dataset for structure in case.structures]
    batch.batch_full, batch.atomic_numbers_full = batch.batch, batch.atomic_numbers
    predictions = {}
    for task in case.tasks:
        parts = [rows(s.predictions, task.property, len(s.numbers), 0.0) for s in case.structures]
        predictions[task.name] = {task.property: torch.cat(parts).requires_grad_()}
    return batch, predictions


def threshold_success(case: Case, tasks: dict[str, Task]) -> tuple[int, int]:
    """Return the systems that are right in energy and forces, and those that can be judged.

    fairchem's function is given what it asks for: physical values of both properties, atoms that
    are measured only, systems with all labels only.
    """
    pred: dict[str, list[torch.Tensor]] = {"energy": [], "forces": []}
    true: dict[str, list[torch.Tensor]] = {"energy": [], "forces": [], "natoms": []}
    for s in case.structures:
        of = {t.property: t for t in case.tasks if s.dataset in t.datasets}
        if not {"energy", "forces"} <= set(of):
            continue
        keep = ~s.fixed if of["forces"].eval_on_free_atoms else np.ones(len(s.fixed), dtype=bool)
        complete = np.isfinite(s.labels["energy"]) and np.isfinite(s.labels["forces"][keep]).all()
        if not keep.any() or not complete:
            continue
        single = Case([s], [of["energy"], of["forces"]], s.dataset)
        batch, raw = their_batch(single)
        energy = tasks[of["energy"].name]
        value = energy.normalizer.denorm(raw[energy.name]["energy"])
        if energy.element_references is not None:
            value = energy.element_references.undo_refs(batch, value)
        forces = tasks[of["forces"].name]
        pred["energy"].append(value)
        pred["forces"].append(forces.normalizer.denorm(raw[forces.name]["forces"])[keep])
        true["energy"].append(batch[energy.name])
        true["forces"].append(batch[forces.name][keep])
        true["natoms"].append(torch.tensor([int(keep.sum())]))
    if not true["energy"]:
        return 0, 0
    found = _metrics.energy_forces_within_threshold(
        {name: torch.cat(parts) for name, parts in pred.items()},
        {name: torch.cat(parts) for name, parts in true.items()},
    )
    return int(found.total), int(found.numel)


def main() -> None:
    """Compute and write all cases."""
    torch.set_default_dtype(torch.float64)
    losses, gradients, totals, counts, masks, successes = [], [], [], [], [], []
    for seed in range(NUM_CASES):
        case = random_case(seed)
        tasks = [their_task(task) for task in case.tasks]
        batch, predictions = their_batch(case)
        found = compute_loss(tasks, predictions, batch)
        sum(found.values()).backward()
        for task in tasks:
            losses.append(float(found[task.name].detach()))
            gradients.append(float(predictions[task.name][task.property].grad.norm()))
        with torch.no_grad():
            for _, mask in sorted(get_output_masks(batch, tasks).items()):
                masks.append(int(mask.sum()))
            for task in tasks:
                for dataset in (None, case.one_dataset):
                    for metric in compute_metrics(task, predictions, batch, dataset).values():
                        totals.append(float(metric.total))
                        counts.append(metric.numel)
            successes.append(threshold_success(case, {task.name: task for task in tasks}))
    np.savez_compressed(
        Path(__file__).with_name("reference.npz"),
        losses=np.array(losses),
        gradients=np.array(gradients),
        masks=np.array(masks, dtype=np.int16),
        metric_totals=np.array(totals),
        metric_counts=np.array(counts, dtype=np.int16),
        threshold_success=np.array(successes, dtype=np.int16),
    )


if __name__ == "__main__":
    main()
