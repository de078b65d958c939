"""Training of potentials as a Lightning module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import nn

from adatom.core.errors import ConfigError
from adatom.core.precision import tf32
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Backbone, Configurable, Head
from adatom.models.graph_network import GraphNetwork
from adatom.tasks.losses import LossSum, build_loss
from adatom.tasks.objective import filter_inference_only_tasks
from adatom.tasks.potential import Potential
from adatom.tasks.task import Task
from adatom.training.checksums import checksum_file, write_checksums
from adatom.training.data_module import AtomisticDataModule
from adatom.training.ema import WeightAverage
from adatom.training.eval_unit import MLIPEvalUnit
from adatom.training.flops import report_flops
from adatom.training.guard import non_finite, require_gradients, warn_of_bf16
from adatom.training.new_potential import new_potential, retrained
from adatom.training.optimization import Optimization
from adatom.training.optimizer import ParameterGroups
from adatom.training.reduction import world_size
from adatom.training.resume import as_resumable
from adatom.training.sharding import total_norm
from adatom.training.step_loss import (
    LossMean,
    add_up,
    connected,
    count_sums,
    detached,
    loss_sums,
    over_ranks,
    share_of_loss,
)
from adatom.training.tasks_from_data import TaskSpec, build_tasks, resolve_tasks
from adatom.training.train_strategy import TrainStrategy

#: Per-atom energy error and force error vectors, weighted as UMA's conserving stage does.
DEFAULT_LOSSES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "energy": {"name": "per_atom_mae", "coefficient": 20.0},
        "forces": {"name": "l2norm", "coefficient": 2.0},
    }
)


class MLIPTrainEvalUnit(MLIPEvalUnit):
    """Trains a potential on any tasks of any datasets, on any number of processes.

    The potential is built when the trainer has set up the data: element references, scales and
    the domain come from there. A step's loss is one mean over all its structures on all ranks, and
    what is logged is that mean.

    Args:
        backbone: The network of a new potential.
        head: From its features to energies, and to forces or stress that are predicted directly;
            null makes an ``EnergyHead``.
        potential: Trained further, with its tasks, instead of a new one.
        tasks: Tasks of a new potential; what they leave open is taken from the data. Null derives
            them from ``losses``: energy, forces and stress of each dataset.
        losses: From ``energy``, ``forces``, ``stress`` to ``{name, coefficient, ...}``. With
            ``potential`` they replace the losses of its tasks.
        metrics: From property to names; null takes those of the tasks.
        loss_mean: What shares one mean in the loss: each ``task``, or all tasks of a
            ``property``, so that every structure weighs the same whatever dataset it is from.
        lr: Peak learning rate.
        weight_decay: Not applied to norms, biases, embeddings and vectors.
        legacy_single_group: Apply it to all parameters, as published UMA trainings did.
        schedule: ``cosine`` begins its fall where the warm-up ends; ``fairchem_cosine`` at step 0.
        warmup_fraction: Part of all steps in which the learning rate rises.
        warmup_factor: Learning rate at the first step, relative to ``lr``.
        min_lr_factor: Learning rate at the last step, relative to ``lr``.
        ema_decay: Of the weight average that is validated and saved; 0 is no average.
        bf16: Compute predictions and losses of the training in bfloat16 where torch's autocast
            finds that safe. Made for direct forces: those that are derivatives lose digits.
            Weights, geometry, and validation keep their precision.
        train_strategy: What each of several processes holds: all weights (``ddp``) or a part of
            them (``fsdp``).
        tf32: Let GPUs multiply with 10-bit mantissas in training; validation keeps all digits.
        debug_checksums: Write ``checksums_rank*.csv`` into the run directory: loss and mean
            absolute value of every parameter and gradient of each step.
        profile_flops: Count the operations of the first step; written to ``flops.json``.

    Attributes:
        potential: Backbone, head and tasks that are being trained.
        average: The weight average, which is a potential too.
        optimization: How the weights are trained; may be changed before the training.
    """

    average: WeightAverage[Potential]

    def __init__(
        self,
        backbone: Backbone | None = None,
        head: Head | None = None,
        *,
        potential: Potential | None = None,
        tasks: list[TaskSpec] | None = None,
        losses: Mapping[str, Mapping[str, Any]] | None = None,
        metrics: Mapping[str, Sequence[str]] | None = None,
        loss_mean: LossMean = "task",
        lr: float = 1e-3,
        weight_decay: float = 1e-3,
        legacy_single_group: bool = False,
        schedule: Literal["cosine", "fairchem_cosine"] = "cosine",
        warmup_fraction: float = 0.02,
        warmup_factor: float = 0.2,
        min_lr_factor: float = 0.01,
        ema_decay: float = 0.999,
        bf16: bool = False,
        tf32: bool = False,
        train_strategy: TrainStrategy | Literal["ddp", "fsdp"] = "ddp",
        debug_checksums: bool = False,
        profile_flops: bool = False,
    ) -> None:
        super().__init__(losses=losses, metrics=metrics, loss_mean=loss_mean)
        self._bf16, self._tf32 = bf16, tf32
        self.optimization = Optimization(
            lr=lr,
            weight_decay=weight_decay,
            legacy_single_group=legacy_single_group,
            schedule=schedule,
            warmup_fraction=warmup_fraction,
            warmup_factor=warmup_factor,
            min_lr_factor=min_lr_factor,
        )
        if (backbone is None) == (potential is None):
            found = "neither" if backbone is None else "both"
            raise ConfigError(f"{found} of backbone and potential are given", expected="one")
        if tasks is not None and (losses is not None or potential is not None):
            raise ConfigError(
                f"tasks are given beside {'losses' if losses is not None else 'a potential'}",
                expected="tasks that have their losses, for a new potential",
            )
        for prop, spec in (losses or {}).items():
            build_loss(prop, spec)
        self._tasks = tasks
        # Held outside the module tree until setup: the trained modules are those of `potential`.
        self._parts: tuple[Backbone | None, Head | None, Potential | None]
        self._parts = (backbone, head, potential)
        self._ema_decay = ema_decay
        self.train_strategy = TrainStrategy(train_strategy)
        self._debug_checksums, self._profile_flops = debug_checksums, profile_flops
        #: Batches of this rank in this step with their predictions, for the message of a stop.
        self._computed: list[tuple[AtomicData, dict[str, torch.Tensor]]] = []
        #: Values of the last step over all ranks, for logs and the progress bar.
        self.last: dict[str, torch.Tensor] = {}

    @property
    def backbone(self) -> Backbone:
        """The network (the same object before and after setup)."""
        if hasattr(self, "potential"):
            return self.potential.backbone
        backbone, _, potential = self._parts
        if potential is not None:
            return potential.backbone
        if backbone is None:
            raise ConfigError("The unit has no backbone")
        return backbone

    @property
    def model_classes(self) -> list[type[Configurable]]:
        """Classes of the given parts, which a checkpoint of this training may name."""
        given = [part for part in self._parts[:2] if part is not None]
        inner = [part.network for part in given if isinstance(part, GraphNetwork)]
        return [type(part) for part in (*given, *inner)]

    @property
    def properties(self) -> list[str]:
        """Properties that have a loss."""
        return sorted({task.property for task in filter_inference_only_tasks(self.potential.tasks)})

    @property
    def parameter_groups(self) -> ParameterGroups:
        """Names of the trained parameters, with and without weight decay."""
        return self.optimization.groups(self.potential)

    @property
    def evaluated(self) -> Potential:
        """The weight average."""
        return self.average.module

    def evaluated_tasks(self) -> list[Task]:
        """Return the tasks that have a loss."""
        return filter_inference_only_tasks(super().evaluated_tasks())

    def use(self, potential: Potential) -> None:
        """Evaluate this potential instead of training a new one."""
        self.potential = potential
        self.average = WeightAverage(potential, decay=0.0)

    def setup(self, stage: str) -> None:
        """Build the potential from the data, once; called by the trainer.

        Args:
            stage: ``"fit"`` builds; for the others :meth:`use` must have been called.

        Raises:
            ConfigError: If there is no potential to evaluate.
        """
        if stage == "fit":
            self._take_over_accumulation()
        if hasattr(self, "potential"):
            return
        if stage != "fit":
            raise ConfigError(f"There is no potential to {stage}", fix="Call use() or fit first.")
        self.potential = self._make_potential(self._data_module)
        self.average = WeightAverage(self.potential, self._ema_decay)
        if self._bf16:
            warn_of_bf16({"forces", "stress"} & set(self.properties), self.potential)

    def _make_potential(self, data: AtomisticDataModule) -> Potential:
        backbone, head, potential = self._parts
        if potential is not None:
            return retrained(potential, self._loss_specs, data)
        if self._tasks is not None:
            tasks = resolve_tasks(self._tasks, data.facts)
        else:
            losses = self._loss_specs or DEFAULT_LOSSES
            tasks = build_tasks(data.facts, losses, metrics=self._metrics)
        backbone = backbone or self.backbone
        head = backbone.default_head() if head is None else head
        return new_potential(backbone, head, self.prepare_tasks(tasks, head.gives), data)

    def prepare_tasks(self, tasks: Sequence[Task], direct: Sequence[str]) -> list[Task]:
        """Return the tasks of a new potential; presets may change what came from the data.

        Args:
            tasks: Complete.
            direct: What the head gives.
        """
        del direct
        return list(tasks)

    def _take_over_accumulation(self) -> None:
        """Let a step have all its batches at once: Lightning would average unequal means."""
        count = self.trainer.accumulate_grad_batches
        if count > 1:
            self._data_module.batches_per_step = count
            self.trainer.accumulate_grad_batches = 1

    def configure_optimizers(self) -> Any:
        """Return AdamW and a schedule that moves every step, or what ``optimization`` says."""
        return self.optimization.configure(self.potential, lambda: self.total_steps)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, unless it stops early."""
        if self.trainer.max_steps >= 0:
            return self.trainer.max_steps
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 0:
            raise ConfigError("The run has no end", expected="trainer.max_epochs or max_steps")
        return self._data_module.num_steps(epochs)

    def training_step(self, batch: AtomicData | list[AtomicData], batch_idx: int) -> torch.Tensor:
        """Return this rank's share of the loss of a step.

        Args:
            batch: Of this rank; several are computed one after the other.
            batch_idx: Not used.

        Raises:
            NonFiniteError: On all ranks, if a loss is NaN or infinite on one; the batch is saved.
        """
        del batch_idx
        batches = batch if isinstance(batch, list) else [batch]
        if self._profile_flops and self.trainer.global_step == 0:
            path = self._folder / "flops.json" if self.trainer.is_global_zero else None
            report_flops(self.potential, batches[0], self._loss_alone, path)
        # Here, not after the forward pass: that of several batches leaves gradients behind.
        for optimizer in self.trainer.optimizers:
            optimizer.zero_grad()
        self._computed = []
        if len(batches) == 1:
            sums = self._sums(batches[0])
            whole = over_ranks(sums)
            loss = share_of_loss(sums, whole)
        else:
            loss, sums, whole = self._accumulate(batches)
        self._publish_step(sums, whole)
        return loss

    def compute(self, batch: AtomicData) -> tuple[dict[str, LossSum], dict[str, torch.Tensor]]:
        """Return the sums of the losses of a batch with their graph, and the raw predictions.

        Args:
            batch: Of this rank.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            # Energies even without a loss: they connect every parameter, which DDP waits for.
            wanted = {"energy", *self.properties}
            raw = self.potential(batch, wanted, create_graph=True)
            sums = loss_sums(self.potential.tasks, raw, batch, self._loss_mean)
        detached_raw = {name: value.detach() for name, value in raw.items()}
        return connected(sums, raw["energy"]), detached_raw

    def _sums(self, batch: AtomicData) -> dict[str, LossSum]:
        sums, raw = self.compute(batch)
        self._computed.append((batch, raw))
        return sums

    def _accumulate(
        self, batches: list[AtomicData]
    ) -> tuple[torch.Tensor, dict[str, LossSum], dict[str, LossSum]]:
        tasks, mean = self.potential.tasks, self._loss_mean
        counts = over_ranks(add_up([count_sums(tasks, batch, mean) for batch in batches]))
        parts = []
        loss = torch.zeros(())
        for i, batch in enumerate(batches):
            sums = self._sums(batch)
            parts.append(detached(sums))
            loss = share_of_loss(sums, counts)
            if i + 1 < len(batches):
                # Inside the forward pass DDP adds nothing up; it does so with the last batch.
                loss.backward()
        mine = add_up(parts)
        return loss, mine, over_ranks(mine)

    def _publish_step(self, mine: Mapping[str, LossSum], whole: Mapping[str, LossSum]) -> None:
        terms = {f"{name}_loss": part.value.detach() for name, part in whole.items()}
        total = torch.stack(list(terms.values())).sum()
        self.last = {"loss": total, **terms}
        if not bool(total.isfinite()):
            bad = [name for name, part in whole.items() if not bool(part.total.isfinite())]
            here = any(not bool(mine[name].total.isfinite()) for name in bad)
            raise self._stop(f"the loss of {' and '.join(bad)}", here=here)

    def _loss_alone(self, batch: AtomicData) -> torch.Tensor:
        sums = self._sums(batch)
        return torch.stack([part.value for part in sums.values()]).sum()

    def optimizer_zero_grad(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: :meth:`training_step` begins without gradients."""

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of the gradient; a gradient that is not finite ends the run.

        Raises:
            NonFiniteError: The weights have not been touched; the batch is saved.
            ConfigError: For another algorithm than the norm.
        """
        if gradient_clip_algorithm not in (None, "norm"):
            found = f"gradient_clip_algorithm is {gradient_clip_algorithm!r}"
            raise ConfigError(found, expected="norm")
        if world_size() > 1 and self.trainer.global_step == 0:
            require_gradients(self.potential)
        if self._debug_checksums:
            step, path = self.trainer.global_step + 1, checksum_file(self._folder)
            write_checksums(path, step, self.last["loss"], self.potential)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = total_norm([p.grad for p in parameters if p.grad is not None])
        self.last["grad_norm"] = norm.detach()
        if not bool(norm.isfinite()):
            raise self._stop("the gradient", here=True)
        if gradient_clip_val:
            nn.utils.clip_grads_with_norm_(parameters, float(gradient_clip_val), norm)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then let the average follow."""
        # Lightning computes loss and gradients in here.
        with tf32(True) if self._tf32 else nullcontext():
            super().optimizer_step(*args, **kwargs)
        self.average.update(self.potential)
        self._computed = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the trainer's own counters ready for a resume; called by the trainer."""
        as_resumable(checkpoint)

    def _stop(self, what: str, *, here: bool) -> Exception:
        step = self.trainer.global_step
        return non_finite(what, step, self._computed if here else [], self._folder)

    @property
    def _folder(self) -> Path:
        return Path(self.trainer.default_root_dir)

    @property
    def _data_module(self) -> AtomisticDataModule:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, AtomisticDataModule):
            return data
        found = f"The data module is {type(data).__name__}"
        raise ConfigError(found, expected="AtomisticDataModule")
