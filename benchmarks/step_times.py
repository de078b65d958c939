"""How long the steps of a real training take, and how long they take without the trainer."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)
import torch
from lightning.pytorch.callbacks import Callback

from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.tasks.potential import Potential
from adatom.tasks.targets import task_target
from adatom.training.optimizer import adamw
from adatom.training.train_unit import MLIPTrainEvalUnit
from benchmarks.training_loss import step_once, training_loss


class StepTimes(Callback):
    """Write the time from each step's start to the next one's, and that of bare steps.

    After each step a copy of the potential makes one with the same batch and without the trainer,
    so that both meet the same load of the machine.

    Args:
        path: JSON file with three lists of seconds, an entry per step: ``trainer`` (all of it but
            the bare step), ``between`` (the part of that from the end of a step to the beginning
            of the next one: mostly the wait for its batch) and ``bare``.
        skip: Steps at the beginning that are not counted.
    """

    def __init__(self, path: str, skip: int = 5) -> None:
        super().__init__()
        self._path = Path(path)
        self._skip = skip
        self._bare_steps: BareSteps | None = None
        self._starts: list[float] = []
        self._ends: list[float] = []
        self._bare: list[float] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Copy the potential.

        Raises:
            ConfigError: If something else than a potential is trained.
        """
        del trainer
        if not isinstance(pl_module, MLIPTrainEvalUnit):
            raise ConfigError(f"StepTimes has no use for {type(pl_module).__name__}")
        self._bare_steps = BareSteps(copy.deepcopy(pl_module.potential).train())

    def on_train_batch_start(self, *_: Any) -> None:
        """Note the time."""
        self._starts.append(time.perf_counter())

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Do the step again without the trainer, and note the time."""
        del trainer, pl_module, outputs, batch_idx
        if self._bare_steps is not None:
            start = time.perf_counter()
            self._bare_steps.step(batch)
            self._ends.append(time.perf_counter())
            self._bare.append(self._ends[-1] - start)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write all times but those of the first steps and of the last, which nothing follows."""
        del trainer, pl_module
        following = self._starts[1:]
        times = {
            "trainer": [
                end - start - bare
                for start, end, bare in zip(self._starts, following, self._bare, strict=False)
            ],
            "between": [start - end for end, start in zip(self._ends, following, strict=False)],
            "bare": self._bare[:-1],
        }
        kept = {name: values[self._skip :] for name, values in times.items()}
        self._path.write_text(json.dumps(kept), encoding="utf-8")


class BareSteps:
    """Optimizer steps with the loss of the comparison, and nothing else.

    Args:
        potential: Trained here, independently of the trainer's.
    """

    def __init__(self, potential: Potential) -> None:
        self._potential = potential
        self._optimizer = adamw(potential, lr=1e-5, weight_decay=1e-3)

    def step(self, batch: AtomicData) -> None:
        """Do one step."""
        energies, forces = (
            task_target(self._potential.task_for(batch.dataset[0], prop), batch).values
            for prop in ("energy", "forces")
        )
        with torch.enable_grad():
            out = self._potential(batch, ("energy", "forces"), create_graph=True)
            loss = training_loss(out["energy"], out["forces"], (energies, forces), batch.natoms)
            step_once(self._potential, self._optimizer, loss)
