"""What batches of more and more structures cost: time and memory of one step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)
import torch
from lightning.pytorch.callbacks import Callback

from adatom.data.atomic_data import AtomicData, collate
from adatom.training.data_module import AtomisticDataModule
from adatom.training.preflight.forecast import measure, memory_of
from adatom.training.preflight.unchanged import unchanged
from adatom.training.sharding import gradients_of
from adatom.training.train_unit import MLIPTrainEvalUnit


class TuningDone(Exception):  # noqa: N818 (nothing went wrong)
    """What was to be found out before the first step is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTrial:
    """What a batch of the largest structures took, forward and backward.

    Attributes:
        structures: Their number.
        atoms: Of all.
        edges: Of all.
        seconds: Of wall time.
        peak_bytes: Memory beyond what the weights take, or None if unknown.
    """

    structures: int
    atoms: int
    edges: int
    seconds: float
    peak_bytes: int | None


class BatchScaling(Callback):
    """Doubles a batch before the first step until the next one would not fit into memory.

    Args:
        max_batch_size: Structures at most.
        memory_fraction: Part of the available memory that may be used.
    """

    def __init__(self, max_batch_size: int, memory_fraction: float) -> None:
        super().__init__()
        self._most, self._fraction = max_batch_size, memory_fraction
        self.trials: list[BatchTrial] = []
        #: Why no larger batch was tried.
        self.end = ""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Try the batches.

        Raises:
            TuningDone: Always.
        """
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(pl_module, MLIPTrainEvalUnit) and isinstance(data, AtomisticDataModule):
            device = pl_module.device
            available = memory_of(device)
            with unchanged(pl_module.potential):
                for batch in self._batches(data.graphs("train")):
                    if not self._tried(pl_module, batch.to(device), available):
                        break
        raise TuningDone

    def _batches(self, systems: Sequence[AtomicData]) -> Iterator[AtomicData]:
        """Yield batches of the largest structures, of which no other batch needs more."""
        order = sorted(range(len(systems)), key=lambda row: -_edges(systems[row]))
        size = 1
        while size <= min(self._most, len(order)):
            yield collate([systems[row] for row in order[:size]])
            size *= 2
        self.end = (
            f"max_batch_size is {self._most}"
            if size > self._most
            else f"there are {len(order)} training structures"
        )

    def _tried(self, module: MLIPTrainEvalUnit, batch: AtomicData, available: int | None) -> bool:
        """Measure a batch; return whether one of twice the size may be tried."""

        def step() -> None:
            sums, _ = module.compute(batch)
            loss = torch.stack([part.value for part in sums.values()]).sum()
            gradients_of(loss, module.potential)

        try:
            if not self.trials:
                step()  # the first time anything is loaded and compiled
            found = measure(step, module.device)
        except torch.OutOfMemoryError:
            self.end = f"{batch.num_systems} structures do not fit into the memory"
            return False
        trial = BatchTrial(
            structures=batch.num_systems,
            atoms=batch.num_atoms,
            edges=_edges(batch),
            seconds=found.seconds,
            peak_bytes=found.rise,
        )
        self.trials.append(trial)
        if available is not None and 2 * (found.rise or 0) > self._fraction * available:
            self.end = f"{2 * batch.num_systems} structures would not fit into the memory"
            return False
        return True


def _edges(system: AtomicData) -> int:
    return system.edges.num_edges if system.edges is not None else 0
