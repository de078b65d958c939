"""Losses and errors of a potential over any number of batches, from sums and counts."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from adatom.data.atomic_data import AtomicData
from adatom.tasks.losses import Loss
from adatom.tasks.metrics import Measures, MetricSum
from adatom.tasks.potential import Potential
from adatom.tasks.targets import label_of, normalized_target, row_mask, row_natoms


class Evaluation:
    """Adds up batches; the result does not depend on how structures were batched.

    Args:
        potential: In evaluation mode.
        losses: By property.
    """

    def __init__(self, potential: Potential, losses: Mapping[str, Loss]) -> None:
        self._potential = potential
        self._losses = losses
        self._sums = {prop: MetricSum() for prop in losses}
        self._several = len(potential.datasets) > 1
        self._measures: dict[tuple[str, str], Measures] = {}

    def add(self, batch: AtomicData) -> None:
        """Predict a batch and add its losses and errors."""
        properties = [prop for prop in self._losses if prop in batch.labels]
        if not properties:
            return
        raw = self._potential(batch, properties)
        raw = {name: value.detach() for name, value in raw.items()}
        for prop in properties:
            target = normalized_target(self._potential, batch, prop)
            total, count = self._losses[prop].sum_and_count(
                raw[prop], target.values, target.natoms, target.mask
            )
            self._sums[prop].total += float(total)
            self._sums[prop].count += count
        predicted = self._potential.denormalize(raw, batch)
        for prop in properties:
            self._measure(prop, predicted[prop], batch)

    def values(self) -> dict[str, float]:
        """Return ``loss`` and, by property (and dataset if there are several), the errors.

        Errors are in eV, eV/atom, eV/angstrom and eV/angstrom^3; the loss is normalized.
        """
        seen = {prop: total.value for prop, total in self._sums.items() if total.count}
        out = {"loss": sum(seen.values())}
        out |= {f"{prop}_loss": value for prop, value in seen.items()}
        for (dataset, prop), measures in sorted(self._measures.items()):
            where = f"{dataset}/" if self._several else ""
            out |= {f"{where}{prop}_{name}": v for name, v in measures.values().items()}
        return out

    def _measure(self, prop: str, predicted: torch.Tensor, batch: AtomicData) -> None:
        label = label_of(batch, prop)
        tasks = [self._potential.task_for(dataset, prop) for dataset in batch.dataset]
        mask = row_mask(batch, label, prop, [task.eval_on_free_atoms for task in tasks])
        natoms = row_natoms(batch, prop)
        names = sorted(set(batch.dataset))
        for name in names:
            rows = mask
            if len(names) > 1:
                own = torch.tensor([d == name for d in batch.dataset], device=mask.device)
                rows = mask & (own[batch.batch] if prop == "forces" else own)
            if not bool(rows.any()):
                continue  # a dataset without this label has no error in it
            key = (name, prop)
            if key not in self._measures:
                self._measures[key] = Measures(prop, self._potential.task_for(*key).metrics)
            self._measures[key].add(predicted, label, natoms, rows)
