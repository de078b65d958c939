"""How Lightning runs a unit on one or several processes: replicated (DDP) or sharded (FSDP2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)
import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from adatom.core.errors import ConfigError
from adatom.training.checkpointing.directory import RESUME, STATE, verify_checkpoint
from adatom.training.checkpointing.plain_values import from_text, to_text
from adatom.training.checkpointing.state import (
    TrainedParts,
    read_config,
    read_state,
    resume_text,
    state_text,
)
from adatom.training.checkpointing.tensors import load_tensors
from adatom.training.checkpointing.writer import CheckpointWriter
from adatom.training.data_module import AtomisticDataModule
from adatom.training.environment import launched_environment
from adatom.training.process_group import end_process_group_at_exit, mesh_of_all
from adatom.training.resume import random_state
from adatom.training.sharding import copy_from_first_rank, shard
from adatom.training.train_strategy import TrainStrategy
from adatom.training.train_unit import MLIPTrainEvalUnit


def unit_strategy(name: object) -> UnitStrategy:
    """Return the strategy for a setting ``trainer.strategy``.

    Args:
        name: ``"auto"`` takes the ``train_strategy`` of the unit; else ``"ddp"`` or ``"fsdp"``.

    Raises:
        ConfigError: If it is something else.
    """
    known = ["auto", *TrainStrategy]
    if name not in known:
        raise ConfigError(f"trainer.strategy is {name!r}", expected=f"one of: {', '.join(known)}")
    return UnitStrategy(None if name == "auto" else TrainStrategy(str(name)))


class UnitStrategy(DDPStrategy):
    """One process per device; gloo between CPUs, NCCL between CUDA devices.

    The same class serves a single process, which then has no process group.

    Args:
        kind: What every process holds; None takes the ``train_strategy`` of the unit.
    """

    def __init__(self, kind: TrainStrategy | None = None) -> None:
        super().__init__(
            cluster_environment=launched_environment(),
            # Every parameter has a gradient (see step_loss.connected), and no buffer changes.
            find_unused_parameters=False,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )
        self._kind = kind
        self._loaded: tuple[Path, dict[str, Any]] | None = None
        self._writer: CheckpointWriter | None = None

    def _configure_launcher(self) -> None:
        if self._is_alone:
            return
        environment = self.cluster_environment
        if environment is not None:
            environment.validate_settings(self.num_processes, self.num_nodes)
        super()._configure_launcher()

    def setup_environment(self) -> None:
        """Join the process group, if there are several processes."""
        if not self._is_alone:
            super().setup_environment()
            end_process_group_at_exit()
            return
        if self.accelerator is None:
            raise ConfigError("The strategy has no accelerator", fix="Pass it to a Trainer.")
        self.accelerator.setup_device(self.root_device)

    def setup(self, trainer: L.Trainer) -> None:
        """Move the module to the device and share it out; called by the trainer."""
        if self._is_alone and trainer.state.fn != TrainerFn.FITTING:
            self.model_to_device()
            self.setup_precision_plugin()
            return
        super().setup(trainer)

    def _setup_model(self, model: nn.Module) -> nn.Module:  # type: ignore[override]
        if self._is_alone:
            return model
        if self.kind == TrainStrategy.DDP:
            return super()._setup_model(model)
        unit = self._unit
        copy_from_first_rank(unit)
        mesh = mesh_of_all(self.root_device.type)
        shard(unit.potential, mesh, trained=True)
        shard(unit.average.module, mesh, trained=False)
        return model

    def _register_ddp_hooks(self) -> None:
        """Do nothing: no communication hook is used, and sharded models know none."""

    @property
    def writer(self) -> CheckpointWriter:
        """Writes the checkpoints; first asked for on all processes at the same time."""
        if self._writer is None:
            self._writer = CheckpointWriter()
        return self._writer

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Tensors are read into the parts that each process holds then."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return nothing: tensors are saved by :meth:`save_checkpoint`."""
        return {}

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return nothing: tensors are saved by :meth:`save_checkpoint`."""
        del optimizer
        return {}

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None
    ) -> None:
        """Begin to write a checkpoint into a folder; every process must call this.

        Args:
            checkpoint: As dumped by the trainer.
            filepath: Of the folder of all checkpoints, in the run directory.
            storage_options: Steps whose checkpoints are kept.
        """
        folder = Path(filepath)
        config = read_config(folder.parent)
        state = state_text(
            checkpoint, self._parts, config=config, planned_world=self._data.planned_world
        )
        self.writer.save(
            folder,
            int(checkpoint["global_step"]),
            self._parts.tensors(),
            of_all={STATE: state, RESUME: resume_text(config, folder.parent)},
            of_rank=to_text({"random_state": random_state()}, "rank"),
            kept_steps=storage_options or (),
        )

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return a checkpoint for the trainer, without its tensors, which are read later.

        Raises:
            CheckpointError: If it is damaged.
        """
        del weights_only
        path = Path(checkpoint_path)
        verify_checkpoint(path, self.global_rank, self.world_size)
        state = read_state(path)
        self._loaded = (path, state)
        mine = path / f"rank_{self.global_rank}.json"
        of_rank = from_text(mine.read_text(encoding="utf-8"), str(mine)) if mine.is_file() else {}
        self._data.keep_steps_of(int(state["planned_world"]))
        unit = state["unit_state"]
        return {
            **unit["progress"],
            **of_rank,
            "state_dict": {},
            "optimizer_states": [],
            "lr_schedulers": unit["scheduler"],
        }

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Read weights and their average into the unit; called by the trainer."""
        del checkpoint, strict
        path, state = self._checkpoint
        load_tensors(path, self._parts.weights(), self.writer.group)
        self._parts.average.updates = int(state["unit_state"]["ema"]["updates"])

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Read the state of the optimizer; called by the trainer."""
        del checkpoint
        path, state = self._checkpoint
        self._parts.set_groups(state["unit_state"]["optim"]["param_groups"])
        load_tensors(path, self._parts.make_optimizer_state(path), self.writer.group)

    def teardown(self) -> None:
        """End what runs beside the training."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer.close()
            self._writer = None
        super().teardown()

    @property
    def _checkpoint(self) -> tuple[Path, dict[str, Any]]:
        if self._loaded is None:
            raise ConfigError("No checkpoint was read", fix="Call load_checkpoint first.")
        return self._loaded

    @property
    def _parts(self) -> TrainedParts:
        unit = self._unit
        optimizers = self.optimizers
        return TrainedParts(unit.potential, unit.average, optimizers[0] if optimizers else None)

    @property
    def _data(self) -> AtomisticDataModule:
        data: Any = self._unit.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, AtomisticDataModule):
            raise ConfigError(
                f"The data module is {type(data).__name__}", expected="AtomisticDataModule"
            )
        return data

    @property
    def kind(self) -> TrainStrategy:
        """What every process holds."""
        return self._kind or self._unit.train_strategy

    @property
    def _is_alone(self) -> bool:
        environment = self.cluster_environment
        several = environment is not None and environment.creates_processes_externally
        return self.num_processes * self.num_nodes == 1 and (
            not several or environment is None or environment.world_size() == 1
        )

    @property
    def _unit(self) -> MLIPTrainEvalUnit:
        unit = self.lightning_module
        if not isinstance(unit, MLIPTrainEvalUnit):
            raise ConfigError(
                f"This strategy cannot train a {type(unit).__name__}", expected="MLIPTrainEvalUnit"
            )
        return unit
