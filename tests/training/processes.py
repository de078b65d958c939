"""Trainings in several processes at once, and what each of them saw."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import Strategy
from torch import multiprocessing

from adatom.training.data_module import AtomisticDataModule
from adatom.training.process_group import end_process_group
from adatom.training.quiet import quiet_lightning
from adatom.training.sharding import whole_weights
from adatom.training.strategy import UnitStrategy
from adatom.training.train_strategy import TrainStrategy
from adatom.training.train_unit import MLIPTrainEvalUnit

#: Makes what is trained, on what; a function of a module, so that it can be sent to a process.
Scenario = Callable[[Path, int], tuple[MLIPTrainEvalUnit, AtomisticDataModule, dict[str, Any]]]


class Curve(Callback):
    """Remembers what the module published at each step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        del trainer
        self.steps.append({name: float(value) for name, value in pl_module.last.items()})


def train(scenario: Scenario, folder: Path, strategy: str | Strategy = "auto") -> dict[str, Any]:
    """Return the curve, the validation and the sum of each weight, or the message of an error."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    curve = Curve()
    options: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": world,
        "strategy": strategy,
        "inference_mode": False,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
        "gradient_clip_val": 1.0,
        "callbacks": [curve],
    }
    torch.manual_seed(0)
    module, data, more = scenario(folder, world)
    try:
        with quiet_lightning():
            trainer = Trainer(**options | more)
            trainer.fit(module, datamodule=data)
    except Exception as error:  # noqa: BLE001 (told to the test)
        return {"error": f"{type(error).__name__}: {error}"}
    average = whole_weights(module.average.module)
    return {
        "steps": curve.steps,
        "results": {name: float(value) for name, value in trainer.callback_metrics.items()},
        "weights": {name: float(w.double().abs().sum()) for name, w in average.items()},
    }


def together(
    scenarios: Sequence[Scenario], folder: Path, kind: TrainStrategy, world: int = 2
) -> dict[str, list[dict[str, Any]]]:
    """Return what :func:`train` returns on each of ``world`` processes, by name of scenario."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    multiprocessing.spawn(_work, (scenarios, folder, kind, world, port), nprocs=world)
    found = [json.loads((folder / f"rank{r}.json").read_text()) for r in range(world)]
    return {scenario.__name__: [f[scenario.__name__] for f in found] for scenario in scenarios}


def _work(
    rank: int,
    scenarios: Sequence[Scenario],
    folder: Path,
    kind: TrainStrategy,
    world: int,
    port: int,
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    torch.set_num_threads(1)
    found = {}
    for scenario in scenarios:
        found[scenario.__name__] = train(scenario, folder, UnitStrategy(kind))
    end_process_group()
    (folder / f"rank{rank}.json").write_text(json.dumps(found))
    left = [name for name in threads() if "gloo" in name]
    if left:
        raise RuntimeError(f"Threads that can abort the process at its end are left: {left}")


def threads() -> list[str]:
    """Return the names of all threads of this process, those of libraries too."""
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
