"""How long the steps of a real training take, and how long they take without the trainer."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)
import torch
from lightning.pytorch.callbacks import Callback

from adatom.data.atomic_data import AtomicData
from adatom.tasks.targets import task_target
from adatom.training.module import S2EFLightningModule
from adatom.training.optimizer import adamw
from benchmarks.training_loss import step_once, training_loss


class StepTimes(Callback):
    """Write the time from each step's start to the next one's, and that of bare steps.

    Args:
        path: JSON file with ``trainer`` and ``bare`` (lists of seconds).
        skip: Steps at the beginning that are not counted.
    """

    def __init__(self, path: str, skip: int = 5) -> None:
        super().__init__()
        self._path = Path(path)
        self._skip = skip
        self._starts: list[float] = []
        self._batches: list[AtomicData] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the time."""
        del trainer, pl_module, batch_idx
        self._starts.append(time.perf_counter())
        self._batches.append(batch)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Repeat the same batches without the trainer, and write both."""
        del trainer
        if not isinstance(pl_module, S2EFLightningModule):
            return
        steps = list(zip(self._starts, self._starts[1:], strict=False))[self._skip :]
        bare = _bare_steps(pl_module, self._batches[self._skip : -1])
        times = {"trainer": [end - start for start, end in steps], "bare": bare}
        self._path.write_text(json.dumps(times), encoding="utf-8")


def _bare_steps(module: S2EFLightningModule, batches: list[AtomicData]) -> list[float]:
    potential = module.potential.train()
    optimizer = adamw(potential, lr=1e-5, weight_decay=1e-3)
    seconds = []
    for batch in batches:
        energies, forces = (
            task_target(potential.task_for(batch.dataset[0], prop), batch).values
            for prop in ("energy", "forces")
        )
        start = time.perf_counter()
        with torch.enable_grad():
            out = potential(batch, ("energy", "forces"), create_graph=True)
            loss = training_loss(out["energy"], out["forces"], (energies, forces), batch.natoms)
            step_once(potential, optimizer, loss)
        seconds.append(time.perf_counter() - start)
    return seconds
