"""Structures for a Lightning trainer: checked once, with neighbor lists, in memory or not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)
import numpy as np

from adatom.core.errors import ConfigError, DataError, unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.data.doctor import Finding
from adatom.training.batch_loader import BatchLoader, StepLoader
from adatom.training.batching import Balance, BatchLimits, BatchPlan, Rows, StructureSizes
from adatom.training.columns import examples_of
from adatom.training.data_source import Sources, as_sources, refuse_mixed_energies
from adatom.training.examination import examine
from adatom.training.graph_loader import with_edges
from adatom.training.index import edge_counts
from adatom.training.lazy_systems import LazySystems
from adatom.training.mixture import MixedOrder, Mixture, sampling_ratios
from adatom.training.sources import (
    DatasetFacts,
    Structures,
    gather_facts,
    read_sources,
    split_off,
)

_STAGE_PARTS: Mapping[str, tuple[str, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("predict",),
}


class AtomisticDataModule(L.LightningDataModule):
    """Training, validation, test and prediction structures.

    Structures of a training do not move, so where they are kept in memory their neighbor lists
    are computed once (about 40 bytes per edge). Others are looked at once, for an index of what
    has to be known of all, and then read and searched for neighbors whenever they are needed.

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
        balance: What the processes of a step get alike: ``systems``, ``atoms`` or ``edges``; null
            takes edges where they are counted, else atoms.
        eval_factor: Batches without training may be this many times larger.
        mixture: How often each dataset is drawn; null draws each structure once per epoch.
        scale: ``shared``: one force RMS normalizes all datasets; ``own``: each has its own.
        in_memory: Keep all structures in memory; null decides by their number and size.
        num_workers: Processes that read structures and find their neighbors, where these are
            not kept in memory.
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
        balance: Balance | None = None,
        eval_factor: int = 4,
        mixture: Mixture | None = None,
        scale: Literal["shared", "own"] = "shared",
        in_memory: bool | None = None,
        num_workers: int = 0,
        check: bool = True,
    ) -> None:
        super().__init__()
        if not 0.0 <= val_fraction < 1.0:
            raise ConfigError(f"val_fraction is {val_fraction}", expected="from 0 to below 1")
        if eval_factor < 1:
            raise ConfigError(f"eval_factor is {eval_factor}", expected="at least 1")
        if num_workers < 0:
            raise ConfigError(f"num_workers is {num_workers}", expected="0 or more")
        if batch_size is max_atoms is max_edges is None:
            batch_size = 8
        self.limits = BatchLimits(systems=batch_size, atoms=max_atoms, edges=max_edges)
        self._eval_limits = BatchLimits(
            systems=batch_size and batch_size * eval_factor,
            atoms=max_atoms and max_atoms * eval_factor,
            edges=max_edges and max_edges * eval_factor,
        )
        self._sources = {"train": train, "val": val, "test": test, "predict": predict}
        given = [source for source in (train, val, test) if source is not None]
        refuse_mixed_energies([one for source in given for one in as_sources(source)])
        self._val_fraction = val_fraction
        self.seed = seed
        #: Set by the module that trains, from ``trainer.accumulate_grad_batches``.
        self.batches_per_step = 1
        self._planned_world: int | None = None
        self._balance = balance
        self._mixture = mixture
        self._shared_scale = scale == "shared"
        self._in_memory, self._num_workers = in_memory, num_workers
        #: Where the index of structures that are not kept in memory is stored; None takes the
        #: folder of the trainer, if there is one.
        self.index_folder: Path | None = None
        self._check = check
        #: What the dataset doctor found; empty before :meth:`setup` or without ``check``.
        self.findings: list[Finding] = []
        self._parts: dict[str, Structures] = {}
        self._graphs: dict[str, list[AtomicData] | LazySystems] = {}
        self._sizes: dict[str, StructureSizes] = {}
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
                val = self.systems("val") if self.has_validation else None
                self.findings = examine(self.systems("train"), val)
            self._facts = gather_facts(self._part("train").columns, shared_scale=self._shared_scale)
        if stage == "fit" and not self.has_validation and self.trainer is not None:
            self.trainer.limit_val_batches = 0  # Lightning's way to train without validation

    def systems(self, part: str) -> Sequence[AtomicData]:
        """Return the structures of ``train``, ``val``, ``test`` or ``predict``, without edges.

        Raises:
            ConfigError: If :meth:`setup` did not read them.
        """
        return self._part(part).systems

    def examples(self, part: str) -> list[AtomicData]:
        """Return a few structures that have every element, charge and spin of each dataset.

        Raises:
            ConfigError: If :meth:`setup` did not read them.
        """
        found = self._part(part)
        return [found.systems[row] for row in examples_of(found.columns)]

    def sample(self, part: str, count: int) -> list[AtomicData]:
        """Return at most ``count`` structures, spread evenly over a part; the same in every call.

        Raises:
            ConfigError: If :meth:`setup` did not read them.
        """
        systems = self.systems(part)
        taken = min(count, len(systems))
        return [systems[row * len(systems) // taken] for row in range(taken)]

    def _part(self, part: str) -> Structures:
        if part not in self._parts:
            raise ConfigError(f"The {part} structures were not read", fix="Call setup() first.")
        return self._parts[part]

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
        return "val" in self._parts and len(self._parts["val"].systems) > 0

    def graphs(self, part: str) -> Sequence[AtomicData]:
        """Return the structures with edges, computed at the first call or whenever asked for.

        The cutoff is that of the trainer's module.
        """
        if part not in self._graphs:
            systems = self._part(part).systems
            self._graphs[part] = with_edges(systems, *self._reach, f"Neighbor lists ({part})")
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

    @property
    def _reach(self) -> tuple[float, int | None]:
        """Cutoff and largest number of neighbors of the network that is trained."""
        module: Any = self._trainer.lightning_module
        return module.backbone.cutoff, module.backbone.max_neighbors

    @property
    def _folder(self) -> Path | None:
        if self.index_folder is None and self.trainer is not None:
            return Path(self.trainer.default_root_dir) / "index"
        return self.index_folder

    def _position(self) -> tuple[int, int]:
        done = self._trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return self._trainer.current_epoch, done * self.batches_per_step

    def _train_plan(self) -> BatchPlan:
        return self._shuffled(self._sizes_of("train"))

    def _shuffled(self, sizes: StructureSizes) -> BatchPlan:
        order = None
        if self._mixture is not None:
            columns = self._part("train").columns
            datasets = [columns.datasets[number] for number in columns.dataset.tolist()]
            ratios = sampling_ratios(self._mixture, Counter(datasets))
            order = MixedOrder(datasets, ratios, self.seed)
        return BatchPlan(
            sizes,
            self.limits,
            self.seed,
            order=order,
            balance=self._balance,
            planned_world=self._planned_world,
        )

    def _in_order(self, sizes: StructureSizes) -> BatchPlan:
        return BatchPlan(sizes, self._eval_limits, None, allow_oversize=True)

    def _ordered(self, part: str) -> BatchLoader:
        # Every evaluation begins at the first batch.
        return self._loader(part, self._in_order(self._sizes_of(part)), lambda: (0, 0))

    def _loader(
        self, part: str, plan: BatchPlan, position: Callable[[], tuple[int, int]]
    ) -> BatchLoader:
        rank, world = self._trainer.global_rank, self._trainer.world_size
        graphs = self.graphs(part)
        workers = self._num_workers if isinstance(graphs, LazySystems) else 0
        return BatchLoader(graphs, plan, position, rank=rank, world=world, workers=workers)

    def _sizes_of(self, part: str) -> StructureSizes:
        if part not in self._sizes:
            graphs = self.graphs(part)
            if isinstance(graphs, LazySystems):
                self._sizes[part] = self._lazy_sizes(part, graphs, *self._reach)
            else:
                self._sizes[part] = StructureSizes.of(graphs)
        return self._sizes[part]

    def _lazy_sizes(
        self, part: str, graphs: LazySystems, cutoff: float, limit: int | None
    ) -> StructureSizes:
        """Take sizes from the index; edges are counted only if they are asked for."""
        edges = None
        if self.limits.edges is not None or self._balance == "edges":
            folder, workers = self._folder, self._num_workers
            found = [
                edge_counts(source, cutoff, limit, folder, workers=workers)
                for source in graphs.sources
            ]
            edges = np.concatenate(found)[graphs.rows]
        atoms = self._part(part).columns.atoms
        return StructureSizes(atoms, edges, lambda row: graphs[row].sid[0])

    def _read(self, part: str) -> None:
        if part in self._parts:
            return
        source = self._sources[part]
        if source is not None:
            self._parts[part] = read_sources(
                as_sources(source),
                in_memory=self._in_memory,
                index_folder=self._folder,
                workers=self._num_workers,
            )
        elif part == "val":
            self._split_train()
        else:
            raise ConfigError(f"data.{part} is not set", expected="a path or a list of sources")
        if not len(self._parts[part].systems) and part != "val":
            raise DataError(f"data.{part} has no structures")

    def _split_train(self) -> None:
        self._read("train")
        whole = self._parts["train"]
        rows = split_off(whole.columns, self._val_fraction, self.seed)
        self._parts["val"] = replace(
            whole.take(rows),
            fingerprints=[{"split_from": "train", "fraction": self._val_fraction, "indices": rows}],
        )
        kept = np.delete(np.arange(len(whole.systems)), rows)
        self._parts["train"] = whole.take(kept.tolist())
