"""One fine-tuning from the base to the checked result, in a run directory."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping

from adatom.checkpoint.format import load_potential
from adatom.core.console import say
from adatom.core.errors import ConfigError
from adatom.core.precision import seeded
from adatom.data.atomic_data import AtomicData
from adatom.data.writers import write_structures
from adatom.tasks.potential import Potential
from adatom.training.checkpoints import RunCheckpoints
from adatom.training.data_module import AtomisticDataModule
from adatom.training.data_source import DataSource
from adatom.training.environment import is_first_process
from adatom.training.finetuning.base import initialize_finetuning_model
from adatom.training.finetuning.forgetting import Errors, errors_of, got_worse, show_change
from adatom.training.finetuning.frozen import (
    compare_weights,
    require_unchanged,
    weight_checksums,
)
from adatom.training.finetuning.lora import add_lora
from adatom.training.finetuning.methods import LEARNING_RATES, train_only, trained_names
from adatom.training.finetuning.predictions import read_systems
from adatom.training.finetuning.prepare import Prepared, prepare, show_tasks
from adatom.training.finetuning.replay import choose_replay, with_labels_of
from adatom.training.finetuning.settings import FinetuningSettings
from adatom.training.finetuning.source_names import named_sources, sources_of_base
from adatom.training.finetuning.start import check_start
from adatom.training.finetuning.unit import FinetuningUnit
from adatom.training.loggers import CsvMetrics, TensorBoardMetrics
from adatom.training.logging_callback import MetricsLogging
from adatom.training.preflight import Preflight
from adatom.training.quiet import first_process_speaks, quiet_lightning
from adatom.training.run_directory import RunDirectory
from adatom.training.strategy import UnitStrategy
from adatom.training.train_strategy import TrainStrategy

#: Structures of each dataset that the first predictions are compared on.
_COMPARED = 4
_WARMUP = 0.05
_CLIP = 100.0


def finetune(settings: FinetuningSettings) -> Path:
    """Train a potential further; the same call continues an interrupted run.

    Args:
        settings: All options.

    Returns:
        The fine-tuned potential, ``best.safetensors`` of the run directory.

    Raises:
        AdatomError: On any mistake in options or data, after an interruption, or if a weight that
            was to stay as it is has changed.
    """
    if settings.method == "lora" and settings.strategy == "fsdp":
        raise ConfigError(
            "strategy is fsdp, which cannot share out the low-rank changes of the method lora",
            fix="Set strategy: ddp.",
        )
    with seeded(settings.seed), first_process_speaks():
        return _Finetuning(settings).run()


class _Finetuning:
    def __init__(self, settings: FinetuningSettings) -> None:
        self.settings = settings
        self.base = initialize_finetuning_model(settings.base)
        self.sources = named_sources(settings.data, self.base.datasets, settings.dataset)
        folder = settings.run_dir or Path("runs") / f"finetune_{self.sources[0].dataset}"
        self.directory = RunDirectory(folder)
        self.best = self.directory.path / "best.safetensors"
        self.is_first = is_first_process()

    def run(self) -> Path:
        """Do everything; return the path of the result.

        Of several processes each prepares the same and takes part in the training; the first one
        alone writes and measures.
        """
        config = asdict(self.settings)
        del config["run_dir"], config["report"]
        if self.is_first:
            self.directory.begin(config)
        if self.directory.result is not None:
            reason = self.directory.result["reason"]
            say(f"The run in {str(self.directory.path)!r} is finished: {reason}.")
            say("Set another run_dir for a new run.")
            return self.best
        data = self._data()
        data.index_folder = self.directory.path / "index"
        data.setup("fit")
        if self.is_first:
            self.directory.check_data(data.fingerprints)
        prepared = self._prepare(data)
        sets = self._measured_sets(data) if self.is_first else {}
        before = self._errors(prepared.potential, sets)
        checksums = weight_checksums(prepared.potential)
        trained = self._choose_weights(prepared.potential)
        unit, ending = self._train(prepared, data)
        require_unchanged(checksums, unit.potential)
        if not self.is_first:
            return self.best
        best = load_potential(self.best, allow=[type(self.base.backbone), type(self.base.head)])
        compare_weights(checksums, weight_checksums(best), trained).show()
        after = self._errors(best, sets)
        for name, errors in before.items():
            show_change(f"{name} before and after", errors, after[name])
            for dataset in set(got_worse(errors, after[name])) & set(data.facts):
                say(
                    f"{name} of {dataset!r} are larger than those of the base. Try a lower lr, "
                    "another method, or more data."
                )
        self.directory.finish({**ending, "before": before, "after": after})
        say(f"Potential: {self.best}")
        return self.best

    def _data(self) -> AtomisticDataModule:
        settings = self.settings
        train: list[str | DataSource] = [*self.sources]
        if settings.replay is not None:
            train += self._replay()
        val: list[str | DataSource] | None = None
        if settings.val is not None:
            val = [*self._named(settings.val)]
        return AtomisticDataModule(
            train,
            val,
            val_fraction=settings.val_fraction,
            seed=settings.seed,
            batch_size=settings.batch_size,
            max_atoms=settings.max_atoms,
            scale="own",
            check=settings.check,
        )

    def _replay(self) -> list[DataSource]:
        """Write the chosen replay structures into the run directory, one file per dataset."""
        settings = self.settings
        given = sources_of_base(settings.replay or [], self.base.datasets, "replay")
        systems = choose_replay(
            read_systems(given),
            len(read_systems(self.sources)),
            settings.replay_ratio,
            settings.seed,
        )
        if settings.replay_labels == "base":
            systems = with_labels_of(self.base, systems)
        out = []
        for name in sorted({system.dataset[0] for system in systems}):
            path = self.directory.path / "replay" / f"{name}.extxyz"
            write_structures(path, [s for s in systems if s.dataset[0] == name])
            out.append(DataSource(path=str(path), dataset=name))
        return out

    def _prepare(self, data: AtomisticDataModule) -> Prepared:
        # What is trained shares nothing with the base, which is compared with later.
        own = copy.deepcopy(self.base).train()
        train = data.systems("train")
        prepared = prepare(own, data.facts, train, self.settings)
        for refit in prepared.refits:
            refit.show()
        show_tasks(prepared, data.facts)
        some = _some_of_each(train)
        check_start(self.base, prepared.potential, prepared.likes, some, prepared.refits).show()
        metadata = {
            "method": self.settings.method,
            "began_as": prepared.likes,
            "base": {"file": Path(self.settings.base).name, "metadata": self.base.metadata},
        }
        name = f"{self.base.metadata.get('name', Path(self.settings.base).stem)} fine-tuned"
        prepared.potential.metadata |= {"name": name, "finetuning": metadata}
        return prepared

    def _choose_weights(self, potential: Potential) -> set[str]:
        """Let only what the method trains require gradients; return its plain names."""
        settings = self.settings
        total = sum(p.numel() for p in potential.parameters())
        trained = trained_names(potential, settings.method, settings.layers)
        if settings.method == "lora":
            trained = add_lora(potential, settings.lora)
        else:
            train_only(potential, trained)
        count = sum(p.numel() for p in potential.parameters() if p.requires_grad)
        say(
            f"Method {settings.method}: {count} parameters are trained, {100 * count / total:.3g} "
            f"% of the {total} of the potential."
        )
        return trained

    def _train(
        self, prepared: Prepared, data: AtomisticDataModule
    ) -> tuple[FinetuningUnit, dict[str, Any]]:
        settings = self.settings
        unit = FinetuningUnit(
            prepared.potential,
            loss_mean="property",
            lr=settings.lr or LEARNING_RATES[settings.method],
            weight_decay=settings.weight_decay,
            warmup_fraction=_WARMUP,
            ema_decay=settings.ema_decay,
        )
        checkpoints = RunCheckpoints()
        # First, so that what is wrong stops the run before anything is written or shown.
        callbacks: list[Callback] = [Preflight(), MetricsLogging()]
        if settings.patience is not None and data.has_validation:
            callbacks.append(EarlyStopping("val/loss", patience=settings.patience))
        folder = self.directory.path
        last = self.directory.last_checkpoint
        if last is not None:
            say(f"Continuing the run in {str(folder)!r}.")
        started = time.monotonic()
        with quiet_lightning():
            trainer = Trainer(
                devices=settings.devices,
                max_epochs=settings.epochs,
                gradient_clip_val=_CLIP,
                inference_mode=False,
                num_sanity_val_steps=0,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=str(folder),
                logger=[
                    CsvMetrics(folder / "metrics.csv"),
                    TensorBoardMetrics(folder / "tensorboard"),
                ],
                callbacks=[*callbacks, checkpoints],
                strategy=UnitStrategy(TrainStrategy(settings.strategy)),
            )
            trainer.fit(unit, datamodule=data, ckpt_path=last and str(last))
        return unit, {
            "reason": "early stopping" if trainer.should_stop else "all epochs done",
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "seconds_of_last_session": round(time.monotonic() - started, 1),
            "best": checkpoints.best,
        }

    def _measured_sets(self, data: AtomisticDataModule) -> dict[str, list[AtomicData]]:
        settings = self.settings
        sets: dict[str, list[AtomicData]] = {}
        if data.has_validation:
            sets["Validation errors"] = list(data.systems("val"))
        if settings.test is not None:
            sets["Test errors"] = read_systems(self._named(settings.test))
        if settings.base_test is not None:
            sources = sources_of_base(settings.base_test, self.base.datasets, "base_test")
            sets["Errors in the domain of the base"] = read_systems(sources)
        return sets

    def _errors(
        self, potential: Potential, sets: Mapping[str, Sequence[AtomicData]]
    ) -> dict[str, Errors]:
        """Measure a potential that knows the datasets of the base, too."""
        known = potential.datasets
        rest = [
            replace(task, datasets=[d for d in task.datasets if d not in known])
            for task in self.base.tasks
        ]
        whole = Potential(
            potential.backbone,
            potential.head,
            [*potential.tasks, *(task for task in rest if task.datasets)],
            {**self.base.domains, **potential.domains},
        )
        return {name: errors_of(whole, systems) for name, systems in sets.items()}

    def _named(self, sources: Any) -> list[DataSource]:
        return named_sources(sources, self.base.datasets, self.sources[0].dataset)


def _some_of_each(systems: Sequence[AtomicData]) -> list[AtomicData]:
    """Return the first few systems of each dataset."""
    chosen: dict[str, list[AtomicData]] = {}
    for system in systems:
        of_dataset = chosen.setdefault(system.dataset[0], [])
        if len(of_dataset) < _COMPARED:
            of_dataset.append(system)
    return [system for part in chosen.values() for system in part]
