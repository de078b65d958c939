"""Losses, metrics and masks of mixed batches: what counts, what adds up, what is refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms

from adatom.core.errors import ConfigError, DataError, UnknownNameError
from adatom.data.atomic_data import AtomicData, collate
from adatom.tasks.objective import (
    compute_loss,
    compute_metrics,
    filter_inference_only_tasks,
    get_output_mask,
    get_output_masks,
)
from adatom.tasks.potential import Potential
from adatom.tasks.task import Task

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from toy_backbone import toy_potential

PROPERTIES = ("energy", "forces", "stress")
LOSSES = {
    "energy": {"name": "per_atom_mae", "coefficient": 20.0},
    "forces": {"name": "l2norm", "coefficient": 2.0},
    "stress": {"name": "mse", "coefficient": 1.0},
}


def trained_potential() -> Potential:
    """Two datasets, with all losses and some metrics; the tasks of slabs have no stress."""
    potential = toy_potential(("bulk", "slabs"), rmsd=2.0)
    for task in potential.tasks:
        task.loss_fn = dict(LOSSES[task.property])
        task.metrics = ["mae", "rmse"]
        task.inference_only = task.name == "slabs_stress"
    return potential


def labelled(atoms: Atoms, dataset: str, properties: str, seed: int) -> AtomicData:
    random = torch.Generator().manual_seed(seed)
    data = AtomicData.from_ase(atoms, sid=str(seed), dataset=dataset)
    shapes = {"energy": (1,), "forces": (len(atoms), 3), "stress": (1, 3, 3)}
    data.labels = {
        name: torch.randn(shapes[name], generator=random, dtype=torch.float64)
        for name in properties.split()
    }
    return data


def systems() -> list[AtomicData]:
    slab = bulk("Cu", cubic=True)
    slab.set_constraint(FixAtoms([0, 1]))
    return [
        labelled(bulk("Si"), "bulk", "energy forces stress", 0),
        labelled(slab, "slabs", "energy forces", 1),
        labelled(molecule("H2O"), "slabs", "energy", 2),
        labelled(Atoms("Ar"), "slabs", "energy forces", 3),
        labelled(bulk("Cu"), "bulk", "forces stress", 4),
        labelled(bulk("Si", cubic=True), "bulk", "energy", 5),
    ]


def batch_of(parts: list[AtomicData], potential: Potential) -> AtomicData:
    return collate(parts).with_edges(potential.cutoff)


def gradient(potential: Potential, loss: torch.Tensor, *, of_all: bool = True) -> torch.Tensor:
    """Return the gradient; ``of_all`` fails if a parameter is not used (as in DDP)."""
    found = torch.autograd.grad(
        loss, list(potential.parameters()), retain_graph=True, materialize_grads=not of_all
    )
    return torch.cat([part.reshape(-1) for part in found])


def test_masks_by_task_and_dataset() -> None:
    potential = trained_potential()
    batch = collate(systems())
    masks = get_output_masks(batch, potential.tasks)
    assert set(masks) == {
        f"{where}{task.name}" for task in potential.tasks for where in ("", "bulk.", "slabs.")
    }
    assert masks["bulk_energy"].tolist() == [True, False, False, False, False, True]
    assert masks["slabs_energy"].tolist() == [False, True, True, True, False, False]
    assert masks["bulk_stress"].flatten(1).all(dim=1).tolist() == [True, *[False] * 3, True, False]
    # Labelled, although two of the atoms are fixed.
    assert masks["slabs_forces"].tolist() == [
        *[False] * 2, *[True] * 4, *[False] * 3, True, *[False] * 9
    ]  # fmt: skip
    assert torch.equal(masks["slabs.slabs_forces"], masks["slabs_forces"])
    assert not masks["bulk.slabs_forces"].any()


def test_a_task_of_two_datasets_has_a_mask_for_each() -> None:
    task = replace(trained_potential().tasks[0], datasets=["bulk", "slabs"])
    masks = get_output_mask(collate(systems()), task)
    assert int(masks[task.name].sum()) == 5
    assert int(masks[f"bulk.{task.name}"].sum()) == 2
    assert int(masks[f"slabs.{task.name}"].sum()) == 3


def test_inference_only_tasks_are_left_out() -> None:
    potential = trained_potential()
    names = [task.name for task in filter_inference_only_tasks(potential.tasks)]
    assert names == [task.name for task in potential.tasks if task.name != "slabs_stress"]
    batch = batch_of(systems(), potential)
    out = compute_loss(potential.tasks, potential(batch, PROPERTIES), batch)
    assert list(out) == names


def test_a_loss_by_hand() -> None:
    potential = trained_potential()
    batch = batch_of(systems(), potential)
    raw = {name: value.detach() for name, value in potential(batch, PROPERTIES).items()}
    losses = compute_loss(potential.tasks, raw, batch)
    physical = potential.denormalize(raw, batch)
    error = (physical["energy"] - batch.labels["energy"])[1:4].abs() / batch.natoms[1:4]
    assert float(losses["slabs_energy"].value) == pytest.approx(float(20.0 * error.mean() / 2.0))
    rows = [4, 5, 9]  # free atoms of the slab, and argon
    length = (physical["forces"] - batch.labels["forces"])[rows].norm(dim=1)
    assert float(losses["slabs_forces"].value) == pytest.approx(float(2.0 * length.mean() / 2.0))


@pytest.mark.parametrize("reduction", ["mean", "per_structure"])
def test_shares_of_ranks_give_the_gradient_of_the_whole_batch(reduction: str) -> None:
    """Two unequal ranks, the second without energies of bulk; DDP averages their gradients."""
    potential = trained_potential()
    for task in potential.tasks:
        task.loss_fn = {**LOSSES[task.property], "reduction": reduction}
    parts = systems()
    whole_batch = batch_of(parts, potential)
    whole = compute_loss(
        potential.tasks, potential(whole_batch, PROPERTIES, create_graph=True), whole_batch
    )
    total = torch.stack([loss.value for loss in whole.values()]).sum()
    batches = [batch_of([parts[i] for i in ids], potential) for ids in ([0, 5], [1, 2, 3, 4])]
    shares = [
        compute_loss(potential.tasks, potential(b, PROPERTIES, create_graph=True), b)
        for b in batches
    ]
    counts = {name: shares[0][name].count + shares[1][name].count for name in whole}
    ranks = [
        torch.stack([2 * s.total / counts[name].clamp(min=1) for name, s in share.items()]).sum()
        for share in shares
    ]
    mean = (gradient(potential, ranks[0]) + gradient(potential, ranks[1])) / 2
    torch.testing.assert_close(mean, gradient(potential, total), rtol=1e-12, atol=1e-14)


def test_a_task_without_labels_is_zero_and_connected() -> None:
    potential = trained_potential()
    batch = batch_of([systems()[2]], potential)  # water: no cell, so its stress is NaN
    raw = potential(batch, PROPERTIES, create_graph=True)
    assert raw["stress"].isnan().all()
    losses = compute_loss(potential.tasks, raw, batch)
    for name in ("slabs_forces", "bulk_energy", "bulk_forces", "bulk_stress"):
        assert float(losses[name].values) == 0.0
        assert float(losses[name].value.detach()) == 0.0
        # Forces and stress do not depend on the bias of the energy.
        zero = gradient(potential, losses[name].value, of_all=name == "bulk_energy")
        assert not zero.any()
    total = torch.stack([loss.value for loss in losses.values()]).sum()
    assert gradient(potential, total).isfinite().all()
    assert gradient(potential, total).any()


def test_metrics_of_batches_add_up_by_dataset() -> None:
    potential = trained_potential()
    parts = systems()
    whole_batch = batch_of(parts, potential)
    halves = [batch_of(parts[:1], potential), batch_of(parts[1:], potential)]
    for task in potential.tasks:
        whole = compute_metrics(task, potential(whole_batch, PROPERTIES), whole_batch)
        first, second = (
            compute_metrics(task, potential(half, PROPERTIES), half, task.datasets[0])
            for half in halves
        )
        for name in task.metrics:
            first[name] += second[name]
            assert first[name].value == pytest.approx(whole[name].value, nan_ok=True)
            assert (float(whole[name].count) > 0) == (task.name != "slabs_stress")


def test_metrics_are_physical_and_of_free_atoms() -> None:
    potential = trained_potential()
    task = potential.task_for("slabs", "forces")
    batch = batch_of([systems()[1]], potential)
    raw = potential(batch, ("forces",))
    error = 2.0 * raw["forces"] - batch.labels["forces"]
    found = compute_metrics(task, raw, batch)
    assert found["mae"].value == pytest.approx(float(error[2:].detach().abs().mean()))
    everything = compute_metrics(replace(task, eval_on_free_atoms=False), raw, batch)
    assert everything["mae"].value == pytest.approx(float(error.detach().abs().mean()))
    assert not found["mae"].total.requires_grad


@pytest.mark.parametrize("properties", [("energy",), ("forces", "energy")])
def test_predictions_that_are_missing_or_misshapen_are_named(properties: tuple[str, ...]) -> None:
    potential = trained_potential()
    batch = batch_of(systems(), potential)
    raw = potential(batch, properties)
    with pytest.raises(UnknownNameError, match=r"prediction for task 'bulk_(forces|stress)'"):
        compute_loss(potential.tasks, raw, batch)
    raw["energy"] = raw["energy"][:, None]
    with pytest.raises(DataError, match=r"'energy' for task 'bulk_energy'.*\(6, 1\).*\(6,\)"):
        compute_loss(potential.tasks, raw, batch)


def test_a_task_without_a_loss_and_a_dataset_without_a_task_are_errors() -> None:
    potential = trained_potential()
    batch = batch_of(systems(), potential)
    raw = potential(batch, PROPERTIES)
    with pytest.raises(UnknownNameError, match="task 'slabs'"):
        compute_loss(potential.tasks[:3], raw, batch)
    potential.tasks[0].loss_fn = None
    with pytest.raises(ConfigError, match="'bulk_energy' has no loss"):
        compute_loss(potential.tasks, raw, batch)


def test_metrics_of_a_foreign_dataset_or_without_the_forces_task_are_errors() -> None:
    potential = trained_potential()
    batch = batch_of(systems(), potential)
    raw = potential(batch, PROPERTIES)
    task: Task = potential.tasks[0]
    with pytest.raises(UnknownNameError, match="dataset of task 'bulk_energy' 'slabs'"):
        compute_metrics(task, raw, batch, "slabs")
    task.metrics = ["energy_forces_within_threshold"]
    with pytest.raises(ConfigError, match="needs forces"):
        compute_metrics(task, raw, batch)


def test_no_step_waits_for_values() -> None:
    """Meta tensors have shapes only: a loss that looked at a value (as a GPU would wait for)
    could not be computed with them."""
    potential = trained_potential()
    batch = batch_of(systems(), potential)
    raw = {name: value.to("meta") for name, value in potential(batch, PROPERTIES).items()}
    for reduction in ("mean", "sum", "per_structure"):
        for task in potential.tasks:
            task.loss_fn = {**LOSSES[task.property], "reduction": reduction}
        losses = compute_loss(potential.tasks, raw, batch.to("meta"))
        assert {loss.total.device.type for loss in losses.values()} == {"meta"}
