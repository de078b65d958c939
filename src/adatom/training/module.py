"""Training of energies, forces and stress as a Lightning module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)
import torch
from torch import nn

from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Backbone, Head
from adatom.tasks.losses import Loss, build_loss
from adatom.tasks.potential import Potential
from adatom.tasks.targets import normalized_target
from adatom.training.data_module import AtomisticDataModule
from adatom.training.ema import WeightAverage
from adatom.training.evaluation import Evaluation
from adatom.training.guard import non_finite
from adatom.training.optimizer import adamw
from adatom.training.resume import as_resumable
from adatom.training.schedule import CosineWithWarmup
from adatom.training.tasks_from_data import build_tasks

#: Per-atom energy error and force error vectors, weighted as UMA's conserving stage does.
DEFAULT_LOSSES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "energy": {"name": "per_atom_mae", "coefficient": 20.0},
        "forces": {"name": "l2norm", "coefficient": 2.0},
    }
)


class S2EFLightningModule(L.LightningModule):
    """Structure to energy and forces (and stress): what is trained and how.

    The potential is built when the trainer has set up the data: element references, the scale and
    the domain come from there.

    Args:
        backbone: The network.
        head: From its features to energies; null makes an ``EnergyHead``.
        losses: From ``energy``, ``forces``, ``stress`` to ``{name, coefficient, ...}``.
        lr: Peak learning rate.
        weight_decay: Not applied to norms, biases, embeddings and vectors.
        warmup_fraction: Part of all steps in which the learning rate rises.
        warmup_factor: Learning rate at the first step, relative to ``lr``.
        min_lr_factor: Learning rate at the last step, relative to ``lr``.
        ema_decay: Of the weight average that is validated and saved.
        metrics: From property to names; null takes the usual ones.

    Attributes:
        potential: Backbone, head and tasks that are being trained.
        average: The weight average, which is a potential too.
    """

    potential: Potential
    average: WeightAverage[Potential]

    def __init__(
        self,
        backbone: Backbone,
        head: Head | None = None,
        *,
        losses: dict[str, dict[str, Any]] | None = None,
        lr: float = 1e-3,
        weight_decay: float = 1e-3,
        warmup_fraction: float = 0.02,
        warmup_factor: float = 0.2,
        min_lr_factor: float = 0.01,
        ema_decay: float = 0.999,
        metrics: dict[str, list[str]] | None = None,
    ) -> None:
        super().__init__()
        if not 0.0 <= warmup_fraction < 1.0:
            raise ConfigError(f"warmup_fraction is {warmup_fraction}", expected="from 0 to below 1")
        self._loss_specs = dict(losses or DEFAULT_LOSSES)
        self._losses = {prop: build_loss(prop, spec) for prop, spec in self._loss_specs.items()}
        self._metrics: Mapping[str, Sequence[str]] | None = metrics
        # Held outside the module tree until setup: the trained modules are those of `potential`.
        self._parts: tuple[Backbone, Head | None] = (backbone, head)
        self._lr, self._weight_decay = lr, weight_decay
        self._warmup_fraction, self._warmup_factor = warmup_fraction, warmup_factor
        self._min_lr_factor = min_lr_factor
        self._ema_decay = ema_decay
        self._evaluation: Evaluation | None = None
        self._batch: AtomicData | None = None
        self._predictions: dict[str, torch.Tensor] = {}
        #: Values of the last step, for logs and the progress bar; tensors on the device.
        self.last: dict[str, torch.Tensor] = {}

    @property
    def backbone(self) -> Backbone:
        """The network (the same object before and after setup)."""
        return self.potential.backbone if hasattr(self, "potential") else self._parts[0]

    @property
    def model_classes(self) -> list[type[Backbone | Head]]:
        """Classes of the given parts, which a checkpoint of this training may name."""
        return [type(part) for part in self._parts if part is not None]

    @property
    def properties(self) -> list[str]:
        """Properties that have a loss."""
        return list(self._losses)

    def use(self, potential: Potential) -> None:
        """Evaluate this potential instead of training a new one."""
        self.potential = potential
        self.average = WeightAverage(potential, decay=0.0)

    def setup(self, stage: str) -> None:
        """Build the potential from the data, once; called by the trainer.

        Args:
            stage: ``"fit"`` builds; for the others :meth:`use` must have been called.

        Raises:
            ConfigError: If there is no potential to evaluate, or more than one process.
        """
        if self.trainer.world_size > 1:
            raise ConfigError(
                f"The trainer has {self.trainer.world_size} processes",
                expected="trainer.devices: 1, the only kind of training so far",
            )
        if hasattr(self, "potential"):
            return
        if stage != "fit":
            raise ConfigError(f"There is no potential to {stage}", fix="Call use() or fit first.")
        data = self._data_module
        backbone, head = self._parts
        self.potential = Potential(
            backbone,
            head if head is not None else _default_head(backbone),
            build_tasks(data.facts, self._loss_specs, metrics=self._metrics),
            {name: fact.domain for name, fact in data.facts.items()},
            metadata={"training_data": data.fingerprints},
        )
        for part in ("train", "val") if data.has_validation else ("train",):
            for system in data.systems(part):
                self.potential.check_input(system)
        self.average = WeightAverage(self.potential, self._ema_decay)

    def configure_optimizers(self) -> Any:
        """Return AdamW and a schedule that moves every step."""
        optimizer = adamw(self.potential, lr=self._lr, weight_decay=self._weight_decay)
        total = self.total_steps
        schedule = CosineWithWarmup(
            optimizer,
            total=total,
            warmup=round(self._warmup_fraction * total),
            warmup_factor=self._warmup_factor,
            min_factor=self._min_lr_factor,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, unless it stops early."""
        if self.trainer.max_steps >= 0:
            return self.trainer.max_steps
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 0:
            raise ConfigError("The run has no end", expected="trainer.max_epochs or max_steps")
        return self._data_module.num_steps(epochs, self.trainer.accumulate_grad_batches)

    def training_step(self, batch: AtomicData, batch_idx: int) -> torch.Tensor:
        """Return the weighted sum of the losses of a batch.

        Raises:
            NonFiniteError: If a loss is NaN or infinite; the batch is saved.
        """
        del batch_idx
        predictions = self.potential(batch, self.properties, create_graph=True)
        terms = {}
        for prop, loss in self._losses.items():
            terms[prop] = self._term(prop, loss, predictions[prop], batch)
        total = torch.stack(list(terms.values())).sum()
        self._batch, self._predictions = batch, predictions
        self.last = {"loss": total.detach()}
        self.last |= {f"{prop}_loss": term.detach() for prop, term in terms.items()}
        if not bool(total.isfinite()):
            bad = [prop for prop, term in terms.items() if not bool(term.isfinite())]
            raise self._stop(f"the loss of {' and '.join(bad)}")
        return total

    def _term(self, prop: str, loss: Loss, pred: torch.Tensor, batch: AtomicData) -> torch.Tensor:
        if prop not in batch.labels:
            return pred.new_zeros((), dtype=torch.float64)
        target = normalized_target(self.potential, batch, prop)
        total, count = loss.sum_and_count(pred, target.values, target.natoms, target.mask)
        return total.double() / max(count, 1)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of the gradient; a gradient that is not finite ends the run.

        Raises:
            NonFiniteError: The weights have not been touched; the batch is saved.
            ConfigError: If another algorithm than the norm is asked for.
        """
        if gradient_clip_algorithm not in (None, "norm"):
            raise ConfigError(
                f"gradient_clip_algorithm is {gradient_clip_algorithm!r}", expected="norm"
            )
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        self.last["grad_norm"] = norm.detach()
        if not bool(norm.isfinite()):
            raise self._stop("the gradient")
        if gradient_clip_val:
            nn.utils.clip_grads_with_norm_(parameters, float(gradient_clip_val), norm)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then let the average follow."""
        super().optimizer_step(*args, **kwargs)
        self.average.update(self.potential)
        self._batch, self._predictions = None, {}

    def on_validation_epoch_start(self) -> None:
        """Begin new sums."""
        self._evaluation = Evaluation(self.average.module, self._losses)

    def validation_step(self, batch: AtomicData, batch_idx: int) -> None:
        """Add a batch to the sums, with the averaged weights."""
        del batch_idx
        if self._evaluation is None:
            raise ConfigError("validation_step was called outside of a validation")
        self._evaluation.add(batch)

    def on_validation_epoch_end(self) -> None:
        """Publish ``val/loss`` and the errors in physical units to callbacks."""
        self._publish("val")

    def on_test_epoch_start(self) -> None:
        """Begin new sums."""
        self.on_validation_epoch_start()

    def test_step(self, batch: AtomicData, batch_idx: int) -> None:
        """Add a batch to the sums."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Publish the errors as ``test/...``."""
        self._publish("test")

    def predict_step(self, batch: AtomicData, batch_idx: int) -> dict[str, torch.Tensor]:
        """Return energy, forces and stress in eV, eV/angstrom and eV/angstrom^3.

        Potentials with direct forces have stress only if a head predicts it.
        """
        del batch_idx
        potential = self.average.module
        potential.check_input(batch)
        possible = {name for dataset in batch.dataset for name in potential.properties(dataset)}
        raw = potential(batch, possible & {"energy", "forces", "stress"})
        detached = {name: value.detach() for name, value in raw.items()}
        return potential.denormalize(detached, batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the trainer's own counters ready for a resume; called by the trainer."""
        as_resumable(checkpoint)

    def _publish(self, prefix: str) -> None:
        if self._evaluation is not None:
            values = {f"{prefix}/{name}": v for name, v in self._evaluation.values().items()}
            self.log_dict(values, logger=False)
            self._evaluation = None

    def _stop(self, what: str) -> Exception:
        folder = Path(self.trainer.default_root_dir)
        if self._batch is None:
            raise ConfigError("There is no batch to save")
        return non_finite(
            what,
            self.trainer.global_step,
            self._batch,
            self._predictions,
            folder / "non_finite_batch.extxyz",
        )

    @property
    def _data_module(self) -> AtomisticDataModule:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, AtomisticDataModule):
            raise ConfigError(
                f"The data module is {type(data).__name__}", expected="AtomisticDataModule"
            )
        return data


def _default_head(backbone: Backbone) -> Head:
    from adatom.models.energy_head import EnergyHead

    return EnergyHead(backbone.num_channels, backbone.num_channels)
