"""One training of the model zoo through the command line, and what it measures of the potential."""

from __future__ import annotations

import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml

from adatom.core.console import say
from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.inference.predict_unit import MLIPPredictUnit
from benchmarks.records import load_average, processor, revision
from benchmarks.workers import ROOT
from benchmarks.zoo_models import MODELS
from benchmarks.zoo_sets import ZooSet

#: Steps that tell how long a step takes, and how many of them one reading is the mean of.
_TRIAL_STEPS, _TRIAL_EVERY = 20, 4
#: Structures timed, after one that is not.
_TIMED = 20


@dataclass(frozen=True)
class Budget:
    """How long each backbone is trained.

    Attributes:
        seconds: Of optimizer steps (as fast as in a short trial), or None.
        structures: Seen, each as often as it is seen, or None.
    """

    seconds: float | None
    structures: int | None

    @property
    def description(self) -> str:
        """In words."""
        if self.seconds is None:
            return f"{self.structures} structures seen"
        return f"{self.seconds:g} seconds of training"


@dataclass(frozen=True)
class Training:
    """A backbone on a set.

    Attributes:
        zoo_set: The structures.
        name: Of the backbone.
        folder: Of the run, its configuration and its result.
        budget: How long.
    """

    zoo_set: ZooSet
    name: str
    folder: Path
    budget: Budget

    @property
    def configuration(self) -> dict[str, Any]:
        """What ``adatom s2ef fit`` is given, but for the number of steps."""
        model = MODELS[self.name]
        arguments = {**self.zoo_set.backbone, **model.init_args}
        return {
            "seed_everything": 0,
            "report": False,
            "model": {
                "backbone": {"class_path": model.class_path, "init_args": arguments},
                "losses": {prop: dict(loss) for prop, loss in self.zoo_set.losses.items()},
                "lr": model.lr,
                "ema_decay": 0.99,
            },
            "data": {
                "train": {"path": str(self.zoo_set.train), "dataset": self.zoo_set.dataset},
                "val_fraction": 0.1,
                "batch_size": self.zoo_set.batch_size,
            },
        }

    @property
    def checkpoint(self) -> Path:
        """The weights at the end: nothing is chosen by what they reach on any structures."""
        return self.folder / "run" / "last.safetensors"

    def run(self) -> None:
        """Train, or continue.

        Raises:
            ConfigError: If the command fails.
        """
        say(f"{self.zoo_set.verb}, {self.name}: {self.budget.description}.")
        steps = self._steps()
        # At least five readings of the speed.
        self._fit("run", steps, every=min(10, max(1, steps // 5)))

    def _steps(self) -> int:
        """Return the number of steps, from a short trial if the budget is seconds."""
        size = self.zoo_set.batch_size
        if self.budget.structures is not None:
            return max(1, self.budget.structures // size)
        stored = self.folder / "steps.json"
        if not stored.exists():
            self._fit("trial", _TRIAL_STEPS, every=_TRIAL_EVERY)
            seconds = (self.budget.seconds or 0.0) * self.rate("trial")
            stored.write_text(json.dumps(max(1, round(seconds / size))) + "\n")
        steps: int = json.loads(stored.read_text())
        return steps

    def rate(self, run: str) -> float:
        """Return structures per second, the median over the readings but the first."""
        with (self.folder / run / "speed.csv").open(newline="") as stream:
            read = [float(row["train/structures_per_second"]) for row in csv.DictReader(stream)]
        return statistics.median(read[1:] or read)

    def _fit(self, run: str, steps: int, every: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{run}.yaml"
        whole = {
            **self.configuration,
            "run_dir": str(self.folder / run),
            "trainer": {"max_steps": steps, "max_epochs": -1},
            "logging": {"every_n_steps": every},
        }
        path.write_text(yaml.safe_dump(whole, sort_keys=False))
        command = [sys.executable, "-m", "adatom", self.zoo_set.verb, "fit", "--config", str(path)]
        one_core = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=ROOT, env=one_core, capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines()
            raise ConfigError(f"{' '.join(command[2:])} failed: {said[-1] if said else 'silently'}")

    @cached_property
    def unit(self) -> MLIPPredictUnit:
        """The trained potential."""
        return MLIPPredictUnit.load(self.checkpoint, {"torch_num_threads": 1})


def measure(training: Training) -> dict[str, Any]:
    """Return the errors of a trained potential on every test, its size and its speed."""
    zoo_set, unit = training.zoo_set, training.unit
    errors = {}
    for name, path in zoo_set.tests.items():
        systems = zoo_set.read(path)
        found = unit.predict(systems)
        energies = found[zoo_set.label].numpy()
        forces = []
        if zoo_set.label == "energy":
            atoms = [system.num_atoms for system in systems]
            forces = [part.double().numpy() for part in found["forces"].split(atoms)]
        errors[name] = zoo_set.errors(systems, energies, forces)
    systems = zoo_set.read(next(iter(zoo_set.tests.values())))
    result = json.loads((training.folder / "run" / "result.json").read_text())
    return {
        "parameters": sum(p.numel() for p in unit.potential.parameters()),
        "structures_seen": result["steps"] * zoo_set.batch_size,
        "structures_per_second": training.rate("run"),
        "milliseconds": _milliseconds(unit, systems),
        "errors": errors,
    }


def circumstances_of(load_before: str) -> dict[str, str]:
    """Return when and where a backbone was trained and measured."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"one core of {processor()}, {os.cpu_count()} cores, {platform.system()}",
        "load": f"{load_before} before, {load_average()} after",
        "commit": revision(),
        "torch": torch.__version__,
    }


def _milliseconds(unit: MLIPPredictUnit, systems: list[AtomicData]) -> float:
    """Return the median time of a prediction of one structure, neighbor search included."""
    times = []
    for system in [systems[i % len(systems)] for i in range(_TIMED + 1)]:
        begin = time.perf_counter()
        unit.predict(system)
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times[1:])
