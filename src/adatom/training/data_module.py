"""Structures for a Lightning trainer: read once, checked, with neighbor lists kept in memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)

from adatom.core.console import progress, say
from adatom.core.errors import ConfigError, DataError, unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.data.doctor import Finding, check_dataset
from adatom.training.batch_loader import BatchLoader, StepLoader
from adatom.training.batching import BatchLimits, BatchPlan, Rows, StructureSizes
from adatom.training.data_source import DataSource
from adatom.training.mixture import MixedOrder, Mixture, sampling_ratios
from adatom.training.sources import (
    DatasetFacts,
    Structures,
    gather_facts,
    read_sources,
    split_off,
)

#: One path, one source, or several of them.
Sources = str | DataSource | list[str | DataSource]

_STAGE_PARTS: Mapping[str, tuple[str, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("predict",),
}


class AtomisticDataModule(L.LightningDataModule):
    """Training, validation, test and prediction structures.

    Structures of a training do not move, so their neighbor lists are computed once. Everything is
    kept in memory (about 40 bytes per edge).

    Args:
        train: A path, a source ``{path, dataset, label_keys, units}``, or a list of them.
        val: As ``train``; null splits ``val_fraction`` off the training structures.
        test: As ``train``, for ``test``.
        predict: As ``train``, for ``predict``; labels are not needed.
        val_fraction: Used if ``val`` is null; 0 trains without validation.
        seed: Of the split and of the order of batches.
        batch_size: Structures per batch; null for no limit.
        max_atoms: Atoms per batch; null for no limit.
        max_edges: Edges per batch; null for no limit. All limits hold together; without any,
            batches have 8 structures.
        eval_factor: Batches without training may be this many times larger.
        mixture: How often each dataset is drawn; null draws each structure once per epoch.
        scale: ``shared``: one force RMS normalizes all datasets; ``own``: each has its own.
        check: Run the dataset doctor before training; its errors stop the run.

    Raises:
        ConfigError: If a number is out of range.
    """

    def __init__(
        self,
        train: Sources | None = None,
        val: Sources | None = None,
        test: Sources | None = None,
        predict: Sources | None = None,
        *,
        val_fraction: float = 0.1,
        seed: int = 0,
        batch_size: int | None = None,
        max_atoms: int | None = None,
        max_edges: int | None = None,
        eval_factor: int = 4,
        mixture: Mixture | None = None,
        scale: Literal["shared", "own"] = "shared",
        check: bool = True,
    ) -> None:
        super().__init__()
        if not 0.0 <= val_fraction < 1.0:
            raise ConfigError(f"val_fraction is {val_fraction}", expected="from 0 to below 1")
        if eval_factor < 1:
            raise ConfigError(f"eval_factor is {eval_factor}", expected="at least 1")
        if batch_size is max_atoms is max_edges is None:
            batch_size = 8
        self.limits = BatchLimits(systems=batch_size, atoms=max_atoms, edges=max_edges)
        self._eval_limits = BatchLimits(
            systems=batch_size and batch_size * eval_factor,
            atoms=max_atoms and max_atoms * eval_factor,
            edges=max_edges and max_edges * eval_factor,
        )
        self._sources = {"train": train, "val": val, "test": test, "predict": predict}
        self._val_fraction = val_fraction
        self.seed = seed
        #: Set by the module that trains, from ``trainer.accumulate_grad_batches``.
        self.batches_per_step = 1
        self._planned_world: int | None = None
        self._mixture = mixture
        self._shared_scale = scale == "shared"
        self._check = check
        #: What the dataset doctor found; empty before :meth:`setup` or without ``check``.
        self.findings: list[Finding] = []
        self._parts: dict[str, Structures] = {}
        self._graphs: dict[str, list[AtomicData]] = {}
        self._facts: dict[str, DatasetFacts] | None = None

    def setup(self, stage: str) -> None:
        """Read, split and check what ``stage`` needs; what was read already is kept.

        Args:
            stage: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.

        Raises:
            ConfigError: If the stage's data were not given.
            DataError: If the doctor finds an error.
        """
        if stage not in _STAGE_PARTS:
            raise unknown_name("stage", stage, _STAGE_PARTS)
        for part in _STAGE_PARTS[stage]:
            self._read(part)
        if stage == "fit" and self._facts is None:
            if self._check:
                self._examine()
            self._facts = gather_facts(self.systems("train"), shared_scale=self._shared_scale)
        if stage == "fit" and not self.has_validation and self.trainer is not None:
            self.trainer.limit_val_batches = 0  # Lightning's way to train without validation

    def systems(self, part: str) -> list[AtomicData]:
        """Return the structures of ``train``, ``val``, ``test`` or ``predict``, without edges.

        Raises:
            ConfigError: If :meth:`setup` did not read them.
        """
        if part not in self._parts:
            raise ConfigError(f"The {part} structures were not read", fix="Call setup() first.")
        return self._parts[part].systems

    @property
    def facts(self) -> dict[str, DatasetFacts]:
        """References, scales and domains by dataset, from the training structures."""
        if self._facts is None:
            raise ConfigError("The data have not been set up", fix="Call setup('fit') first.")
        return self._facts

    @property
    def fingerprints(self) -> dict[str, Any]:
        """What was read: files, hashes, counts and the split, as plain JSON values."""
        out: dict[str, Any] = {name: part.fingerprints for name, part in self._parts.items()}
        out["count"] = {name: len(part.systems) for name, part in self._parts.items()}
        return out

    @property
    def has_validation(self) -> bool:
        """Whether there are validation structures."""
        return bool(self._parts.get("val", Structures()).systems)

    def graphs(self, part: str) -> list[AtomicData]:
        """Return the structures with edges, computed at the first call.

        The cutoff is that of the trainer's module.
        """
        if part not in self._graphs:
            module: Any = self._trainer.lightning_module
            cutoff, limit = module.backbone.cutoff, module.backbone.max_neighbors
            systems = self.systems(part)
            with progress(f"Neighbor lists ({part})", len(systems)) as bar:
                found = []
                for system in systems:
                    found.append(system.with_edges(cutoff, max_neighbors=limit))
                    bar.advance()
            self._graphs[part] = found
        return self._graphs[part]

    def num_steps(self, epochs: int) -> int:
        """Return the number of optimizer steps in the first ``epochs`` epochs."""
        plan = self._train_plan()
        world = self._trainer.world_size
        counts = [plan.count(epoch, world) for epoch in range(epochs)]
        # An epoch's last step may have fewer batches.
        return sum(math.ceil(count / self.batches_per_step) for count in counts)

    def loads(self, epoch: int) -> Rows:
        """Return the edges (atoms, where edges were not counted) of each batch of this process."""
        rank, world = self._trainer.global_rank, self._trainer.world_size
        return self._train_plan().loads(epoch, rank, world)

    @property
    def planned_world(self) -> int:
        """Number of processes that the steps of the run are planned for."""
        return self._planned_world or self._trainer.world_size

    def keep_steps_of(self, world: int) -> None:
        """Keep the steps of a run that began with another number of processes.

        With fewer processes, each computes several batches of a step, one after the other.

        Args:
            world: Number of processes that the run began with.
        """
        self._planned_world = world
        self.batches_per_step *= self._train_plan().turns(self._trainer.world_size)

    def train_dataloader(self) -> BatchLoader | StepLoader:
        """Return batches that depend only on (seed, epoch), from the trainer's position on.

        Where a step of the optimizer has several batches, they come as lists.
        """
        loader = self._loader("train", self._train_plan(), self._position)
        return loader if self.batches_per_step == 1 else StepLoader(loader, self.batches_per_step)

    def val_dataloader(self) -> BatchLoader:
        """Return the validation batches in file order."""
        return self._ordered("val")

    def test_dataloader(self) -> BatchLoader:
        """Return the test batches in file order."""
        return self._ordered("test")

    def predict_dataloader(self) -> BatchLoader:
        """Return the batches to be predicted in file order."""
        return self._ordered("predict")

    @property
    def _trainer(self) -> L.Trainer:
        if self.trainer is None:
            raise ConfigError("The data module has no trainer", fix="Pass it to trainer.fit().")
        return self.trainer

    def _position(self) -> tuple[int, int]:
        done = self._trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return self._trainer.current_epoch, done * self.batches_per_step

    def _train_plan(self) -> BatchPlan:
        graphs, order = self.graphs("train"), None
        if self._mixture is not None:
            datasets = [system.dataset[0] for system in graphs]
            ratios = sampling_ratios(self._mixture, Counter(datasets))
            order = MixedOrder(datasets, ratios, self.seed)
        return BatchPlan(
            StructureSizes.of(graphs),
            self.limits,
            self.seed,
            order=order,
            planned_world=self._planned_world,
        )

    def _ordered(self, part: str) -> BatchLoader:
        sizes = StructureSizes.of(self.graphs(part))
        # Every evaluation begins at the first batch.
        return self._loader(
            part, BatchPlan(sizes, self._eval_limits, None, allow_oversize=True), lambda: (0, 0)
        )

    def _loader(
        self, part: str, plan: BatchPlan, position: Callable[[], tuple[int, int]]
    ) -> BatchLoader:
        rank, world = self._trainer.global_rank, self._trainer.world_size
        return BatchLoader(self.graphs(part), plan, position, rank=rank, world=world)

    def _read(self, part: str) -> None:
        if part in self._parts:
            return
        source = self._sources[part]
        if source is not None:
            self._parts[part] = read_sources(as_sources(source))
        elif part == "val":
            self._split_train()
        else:
            raise ConfigError(f"data.{part} is not set", expected="a path or a list of sources")
        if not self._parts[part].systems and part != "val":
            raise DataError(f"data.{part} has no structures")

    def _split_train(self) -> None:
        self._read("train")
        whole = self._parts["train"]
        rows = split_off(whole.systems, self._val_fraction, self.seed)
        held = set(rows)
        self._parts["val"] = Structures(
            [whole.systems[i] for i in rows],
            [{"split_from": "train", "fraction": self._val_fraction, "indices": rows}],
        )
        kept = [s for i, s in enumerate(whole.systems) if i not in held]
        self._parts["train"] = Structures(kept, whole.fingerprints)

    def _examine(self) -> None:
        others = {"val": self.systems("val")} if self.has_validation else {}
        self.findings = check_dataset(self.systems("train"), others=others)
        report_findings(self.findings)


def as_sources(sources: Sources) -> list[DataSource]:
    """Return a list of sources from any of the forms a configuration may use."""
    several: Sequence[str | DataSource] = sources if isinstance(sources, list) else [sources]
    return [DataSource(path=s) if isinstance(s, str) else s for s in several]


def report_findings(findings: Sequence[Finding]) -> None:
    """Print warnings of the dataset doctor; stop at its errors.

    Raises:
        DataError: If a finding is an error; the message has the first one.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    for finding in findings:
        if finding.severity == "warning":
            say(f"Warning about the data: {finding.message} {finding.fix}")
    if errors:
        more = f" (and {len(errors) - 1} more errors)" if len(errors) > 1 else ""
        raise DataError(
            f"{errors[0].message}{more}",
            fix=f"{errors[0].fix} 'adatom data check' lists everything; "
            "data.check: false trains nevertheless.",
        )
