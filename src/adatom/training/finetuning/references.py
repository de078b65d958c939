"""Element references and scale of a new level of theory, fitted on what the base leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from ase.data import chemical_symbols

from adatom.core.console import print_table, say
from adatom.core.errors import ConfigError, MissingLabelError
from adatom.data.atomic_data import AtomicData
from adatom.data.element_references import MAX_ATOMIC_NUMBER, solve_references
from adatom.nn.experts import MixedLinear
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, Task
from adatom.training.finetuning.new_dataset import readouts
from adatom.training.finetuning.predictions import predicted
from adatom.training.new_potential import with_tasks


@dataclass(frozen=True, slots=True)
class ReferenceRefit:
    """What a refit of element references changed.

    Attributes:
        dataset: Whose references they are.
        elements: Atomic numbers in the data, ascending.
        before: ``[119]`` float64 eV per atom.
        after: ``[119]`` float64 eV per atom.
        rank: How many combinations of ``elements`` the compositions of the data determine.
        num_systems: Structures with an energy.
        error_before: Mean absolute error of the energy with the old references, eV/atom.
        error_after: The same with the new ones.
    """

    dataset: str
    elements: tuple[int, ...]
    before: torch.Tensor
    after: torch.Tensor
    rank: int
    num_systems: int
    error_before: float
    error_after: float

    def show(self) -> None:
        """Print the table before and after."""
        rows = [
            (chemical_symbols[z], float(self.before[z]), float(self.after[z]))
            for z in self.elements
        ]
        print_table(
            f"Element references of {self.dataset!r} in eV per atom, refitted on "
            f"{self.num_systems} structures",
            ("element", "before", "after", "change"),
            [
                (symbol, f"{old:.4f}", f"{new:.4f}", f"{new - old:+.4f}")
                for symbol, old, new in rows
            ],
        )
        say(
            f"Energy error of the base on {self.dataset!r} in meV/atom: "
            f"{1000 * self.error_before:.4g} before, {1000 * self.error_after:.4g} after the refit."
        )
        if self.rank < len(self.elements):
            say(
                f"The compositions determine {self.rank} of {len(self.elements)} references of "
                f"{self.dataset!r}: their sums over these compositions are right, single ones are "
                "the nearest to those of the base."
            )


def refit_references(
    potential: Potential, dataset: str, systems: Sequence[AtomicData]
) -> tuple[Potential, ReferenceRefit]:
    """Fit element references to what the potential's own energies leave of the labels.

    The change has the least norm among all that fit equally well, so that what the data do not
    determine stays as it was.

    Args:
        potential: Its references of ``dataset`` are where the fit starts.
        dataset: Whose references are fitted.
        systems: Single systems of that dataset; those without an energy do not enter.

    Returns:
        A potential of the same modules with the new references, and the change.

    Raises:
        MissingLabelError: If no structure has an energy.
    """
    task = potential.task_for(dataset, "energy")
    labelled = [system for system in systems if "energy" in system.labels]
    if not labelled:
        raise MissingLabelError(
            f"No structure of dataset {dataset!r} has the label 'energy', so its element "
            "references cannot be refitted",
            fix="Name the energy's key in the file with label_keys, or keep the references.",
        )
    residuals, counts = [], []
    for batch, values in predicted(potential, labelled, ["energy"], dataset=dataset):
        residuals.append((batch.labels["energy"].double() - values["energy"]).cpu())
        cell = batch.batch * (MAX_ATOMIC_NUMBER + 1) + batch.atomic_numbers
        flat = torch.bincount(cell, minlength=batch.num_systems * (MAX_ATOMIC_NUMBER + 1))
        counts.append(flat.view(batch.num_systems, -1).double().cpu())
    residual, count = torch.cat(residuals).numpy(), torch.cat(counts).numpy()
    change, rank = solve_references(count, residual)
    before = _full_table(task)
    after = before + torch.from_numpy(change)
    natoms = count.sum(axis=1)
    refit = ReferenceRefit(
        dataset=dataset,
        elements=tuple(int(z) for z in np.flatnonzero(count.any(axis=0))),
        before=before,
        after=after,
        rank=rank,
        num_systems=len(labelled),
        error_before=float(np.mean(np.abs(residual) / natoms)),
        error_after=float(np.mean(np.abs(residual - count @ change) / natoms)),
    )
    tasks = [replace(t, element_references=after) if t is task else t for t in potential.tasks]
    return with_tasks(potential, tasks), refit


def rescale(potential: Potential, dataset: str, rmsd: float) -> Potential:
    """Return a potential that predicts the same with another normalizer of one dataset.

    The last layer of the energy head is multiplied by the ratio of the scales. Its bias is shared
    by all datasets, so its part goes into the references instead.

    Args:
        potential: The dataset must have weights of its own in the energy head; changed in place.
        dataset: Whose energies, and derivatives of energies, get the scale.
        rmsd: In eV.

    Raises:
        ConfigError: If the energy head has no weights of this dataset alone.
    """
    block = readouts(potential.head).get("energies")
    expert = None if block is None else block.expert_of.get(dataset)
    if block is None or expert is None or list(block.expert_of.values()).count(expert) > 1:
        raise ConfigError(
            f"The scale of dataset {dataset!r} cannot change: the energy head has no weights of "
            "this dataset alone",
            fix="Keep the scale of the base.",
        )
    old = potential.task_for(dataset, "energy")
    last = cast("MixedLinear", block[-1])
    ratio = old.normalizer.rmsd / Normalizer(0.0, rmsd).rmsd
    with torch.no_grad():
        last.weights[expert] *= ratio
    bias = 0.0 if last.bias is None else float(last.bias.detach().double())
    moved = (old.normalizer.rmsd - rmsd) * bias
    tasks = []
    for task in potential.tasks:
        if task.datasets != [dataset] or task.property in potential.direct_properties:
            tasks.append(task)
        elif task.property != "energy":
            tasks.append(replace(task, normalizer=Normalizer(0.0, rmsd)))
        elif potential.head.mean_energy:
            mean = task.normalizer.mean + moved
            tasks.append(replace(task, normalizer=Normalizer(mean, rmsd)))
        else:
            table = _full_table(task)
            table[1:] += moved
            scaled = Normalizer(task.normalizer.mean, rmsd)
            tasks.append(replace(task, normalizer=scaled, element_references=table))
    return with_tasks(potential, tasks)


def _full_table(task: Task) -> torch.Tensor:
    """Return a copy of the references of all elements, zeros where there are none."""
    table = torch.zeros(MAX_ATOMIC_NUMBER + 1, dtype=torch.float64)
    if task.element_references is not None:
        given = task.element_references.double().cpu()[: len(table)]
        table[: len(given)] = given
    return table
