"""A loss that is exactly zero or absurd stops a run before it begins, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from adatom.core.errors import ConfigError, DataError
from adatom.data.atomic_data import AtomicData
from adatom.tasks.losses import LossSum
from adatom.tasks.objective import filter_inference_only_tasks
from adatom.tasks.targets import labelled, labels_of, references_of, row_systems, served
from adatom.tasks.task import Task


@dataclass(frozen=True, slots=True)
class ErrorLimits:
    """Errors beyond these mean that something is wrong, however badly a network is initialized.

    Attributes:
        energy: Of a structure's energy or relaxed energy, eV/atom, after element references.
        forces: RMS over the force components of a structure, eV/angstrom.
    """

    energy: float = 100.0
    forces: float = 1000.0

    def __post_init__(self) -> None:
        """Refuse limits that nothing passes."""
        if not (self.energy > 0.0 and self.forces > 0.0):
            raise ConfigError(
                f"The limits of preflight are {self.energy} and {self.forces}",
                expected="numbers above 0 (.inf for no limit)",
            )


def refuse_absurd(
    tasks: Sequence[Task],
    raw: Mapping[str, torch.Tensor],
    batch: AtomicData,
    limits: ErrorLimits,
) -> None:
    """Stop at a structure whose energy or forces are off by more than any network can learn.

    Args:
        tasks: Of the potential.
        raw: Predictions by property, in network units.
        batch: What was predicted, with labels.
        limits: What is absurd.

    Raises:
        DataError: The message names the structure, and says whether its label or the prediction
            is to blame.
    """
    found = [
        _Worst.of(task, raw, batch, limits.forces if task.level == "atom" else limits.energy)
        for task in filter_inference_only_tasks(tasks)
        if task.property in ("energy", "relaxed_energy", "forces")
    ]
    absurd = [worst for worst in found if worst.error > worst.limit]
    # A label that is absurd may spoil the scale of all predictions: labels are named first.
    for worst in sorted(absurd, key=lambda w: w.label <= w.limit):
        raise worst.mistake()


@dataclass(frozen=True, slots=True)
class _Worst:
    """The structure of a batch with the largest error of one task; sizes as in `_size`."""

    prop: str
    who: str
    error: float
    label: float
    prediction: float
    limit: float

    @classmethod
    def of(
        cls, task: Task, raw: Mapping[str, torch.Tensor], batch: AtomicData, limit: float
    ) -> _Worst:
        mask = served(task, labelled(task, batch), batch)
        label = labels_of(task, batch) - references_of(task, batch)
        predicted = task.normalizer.denorm(raw[task.property].detach().double())
        sizes = [_size(task, value, mask, batch) for value in (predicted - label, label, predicted)]
        row = int(sizes[0].argmax())
        error, of_label, of_prediction = (float(size[row]) for size in sizes)
        who = f"structure {batch.sid[row]!r} of dataset {batch.dataset[row]!r}"
        return cls(task.property, who, error, of_label, of_prediction, limit)

    def mistake(self) -> DataError:
        energy = self.prop != "forces"
        unit = "eV/atom after the element references" if energy else "eV/angstrom"
        option = f"preflight.max_{'energy' if energy else 'force'}_error"
        expected = f"an error below {self.limit:g} {'eV/atom' if energy else unit}"
        if self.label > self.limit:
            return DataError(
                f"The {self.prop} of {self.who} is {self.label:.4g} {unit}",
                expected=f"{expected} before the first step",
                fix="Look at its label and its unit with 'adatom data check', or raise the limit "
                f"{option}.",
            )
        return DataError(
            f"Before the first step the {self.prop} of {self.who} is predicted as "
            f"{self.prediction:.4g} {unit}, an error of {self.error:.4g}",
            expected=expected,
            fix="Look at the structure for atoms that are too close and at the scale of the data, "
            f"or raise the limit {option}.",
        )


def _size(task: Task, value: torch.Tensor, mask: torch.Tensor, batch: AtomicData) -> torch.Tensor:
    """Return ``[B]``: energy per atom, or RMS of the forces; 0 where nothing is labelled."""
    if task.level == "system":
        return torch.where(mask, (value / batch.natoms).abs(), 0.0)
    squares = torch.where(mask[:, None], value, 0.0).square().mean(dim=1)
    zero = squares.new_zeros(batch.num_systems)
    rows = row_systems(task, batch)
    atoms = zero.index_add(0, rows, mask.double()).clamp(min=1.0)
    return (zero.index_add(0, rows, squares) / atoms).sqrt()


def refuse_zero(
    sums: Mapping[str, LossSum],
    tasks: Sequence[Task],
    batches: Sequence[AtomicData],
    *,
    whole_epoch: bool,
) -> list[str]:
    """Stop at a loss that is exactly zero: it would train nothing and nobody would notice.

    Args:
        sums: Added up over ``batches`` and all ranks, by task or property.
        tasks: Of the potential.
        batches: Of this rank; they tell the reason.
        whole_epoch: Whether these are all there are.

    Returns:
        Names of the losses without a label in ``batches``, which later batches may have.

    Raises:
        DataError: If a loss is zero over some labels, or there is no label in a whole epoch.
    """
    unseen = []
    for name, part in sums.items():
        if float(part.count) == 0.0:
            if whole_epoch:
                raise DataError(
                    f"The loss of {name} is always 0: no label of it counts in a whole epoch "
                    f"(the first structure is {batches[0].sid[0]!r})",
                    fix="Look at 'train_on_free_atoms' if all its atoms are fixed, or drop the "
                    "loss.",
                )
            unseen.append(name)
        elif float(part.total) == 0.0:
            own = [t for t in filter_inference_only_tasks(tasks) if name in (t.name, t.property)]
            raise DataError(
                f"The loss of {name} is exactly 0 over {int(part.count)} labels: "
                f"{_why_zero(own, batches)}",
                expected="a loss that the training can lower",
                fix="Mend the labels, or drop this loss.",
            )
    return unseen


def _why_zero(tasks: Sequence[Task], batches: Sequence[AtomicData]) -> str:
    if all((task.loss_fn or {}).get("coefficient", 1.0) == 0.0 for task in tasks):
        return "its coefficient is 0"
    for task in tasks:
        for batch in batches:
            mask = served(task, labelled(task, batch), batch)
            rows = mask.flatten(1).any(dim=1) if mask.dim() > 1 else mask
            label = labels_of(task, batch) - references_of(task, batch)
            if bool(rows.any()):
                system = row_systems(task, batch)[rows][0]
                nothing = not bool(label[mask].any())
                what = "all labels are exactly 0" if nothing else "every label is predicted exactly"
                return f"{what} (the first structure is {batch.sid[int(system)]!r})"
    return "every label is predicted exactly"
