"""How Lightning runs a unit on one or several processes: replicated (DDP) or sharded (FSDP2)."""

from __future__ import annotations

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from adatom.core.errors import ConfigError
from adatom.training.environment import launched_environment
from adatom.training.sharding import copy_from_first_rank, shard
from adatom.training.train_strategy import TrainStrategy
from adatom.training.train_unit import MLIPTrainEvalUnit


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
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        shard(unit.potential, mesh, trained=True)
        shard(unit.average.module, mesh, trained=False)
        return model

    def _register_ddp_hooks(self) -> None:
        """Do nothing: no communication hook is used, and sharded models know none."""

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
