"""Make ``defects.json``: what fairchem's functions give on the batches of ``defect_cases.py``.

Needs fairchem-core 2.24.0:
``.venv-fairchem/bin/python tests/tasks/fairchem_reference/make_defects.py``. Nothing is helped
here: a loss is fairchem's ``DDPMTLoss`` around its own element-wise function, and an exception is
recorded by the name of its class.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from defect_cases import defect_cases
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.modules.loss import DDPMTLoss
from fairchem.core.units.mlip_unit._metrics import Metrics
from fairchem.core.units.mlip_unit.mlip_unit import Task, compute_loss, compute_metrics
from make import their_batch, their_task
from random_cases import Case


def or_error(compute: Callable[[], Any]) -> Any:
    """Return the result, or the name of the exception."""
    try:
        return compute()
    except Exception as error:  # noqa: BLE001 - whatever it is, its name is the result
        return type(error).__name__


def own_task(case: Case, metric: str) -> Task:
    """Return the task with fairchem's loss as it is, and one metric."""
    task = their_task(case.tasks[0])
    loss = DDPMTLoss(task.loss_fn.loss_fn, task.loss_fn.reduction, task.loss_fn.coefficient)
    return replace(task, loss_fn=loss, metrics=[metric])


def loss_and_gradient(case: Case) -> dict[str, Any]:
    """Return the loss and the gradient of the prediction."""
    task = own_task(case, "mae")
    batch, predictions = their_batch(case)
    loss = compute_loss([task], predictions, batch)[task.name]
    loss.backward()
    gradient = predictions[task.name][task.property].grad
    return {"loss": float(loss.detach()), "gradient": gradient.tolist()}


def metric(case: Case, name: str) -> float:
    """Return a metric."""
    task = own_task(case, name)
    batch, predictions = their_batch(case)
    return float(compute_metrics(task, predictions, batch)[name].metric)


def two_empty_batches() -> float:
    """Return the metric of two batches without labels."""
    total = Metrics()
    total += Metrics()
    return float(total.metric)


def dereferenced_large_energy() -> float:
    """Return what is left of -100000.0012345 eV after references of 100000 eV."""
    atoms = ase.Atoms("O")
    atoms.calc = SinglePointCalculator(atoms, energy=-100000.0012345)
    return float(AtomicData.from_ase(atoms).energy.double() + 100000.0)


def main() -> None:
    """Compute and write all."""
    logging.disable()
    found: dict[str, Any] = {"large energy": dereferenced_large_energy()}
    torch.set_default_dtype(torch.float64)
    cases = defect_cases()
    for name, case in cases.items():
        found[name] = or_error(lambda case=case: loss_and_gradient(case))
    for name in ("rmse of forces", "rmse of energies"):
        found[name] = metric(cases[name], "rmse")
    name = "a force without direction"
    found[name] = metric(cases[name], "cosine_similarity")
    found["energy_forces_within_threshold"] = or_error(
        lambda: metric(cases["rmse of energies"], "energy_forces_within_threshold")
    )
    found["two empty batches"] = or_error(two_empty_batches)
    path = Path(__file__).with_name("defects.json")
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
