"""The first seconds of every training: one batch forward and backward, and what it tells."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)
import torch
from lightning.pytorch.callbacks import Callback

from adatom.core.errors import AdatomError, ConfigError, OutOfMemoryError
from adatom.core.files import atomic_write
from adatom.data.atomic_data import AtomicData
from adatom.tasks.losses import LossSum
from adatom.training.data_module import AtomisticDataModule
from adatom.training.guard import non_finite
from adatom.training.preflight.checks import ErrorLimits, refuse_absurd, refuse_zero
from adatom.training.preflight.forecast import Forecast, Measured, forecast, measure
from adatom.training.preflight.parameters import count_parameters
from adatom.training.preflight.summary import say_findings, show_findings
from adatom.training.preflight.unchanged import unchanged
from adatom.training.reduction import on_any_rank
from adatom.training.sharding import gradients_of
from adatom.training.step_loss import add_up, over_ranks
from adatom.training.train_unit import MLIPTrainEvalUnit

#: Batches that are looked at until every loss has been seen to be above zero.
_MOST_BATCHES = 4


class PreflightDone(Exception):  # noqa: N818 (nothing went wrong)
    """The run was to stop after its preflight, and has."""


class Preflight(Callback):
    """Checks a training before its first step; the run is the same to the last bit without it.

    A loss, prediction or gradient that is not finite, a loss that is exactly zero and an absurd
    error stop the run with the reason. ``preflight.json`` in the run directory keeps what was
    found: parameters by part, missing labels by dataset, predicted memory and time.

    Args:
        only: Stop after the checks.
        max_energy_error: Largest error of an energy in eV/atom, after element references.
        max_force_error: Largest RMS error of the forces of a structure in eV/angstrom.
    """

    def __init__(
        self,
        *,
        only: bool = False,
        max_energy_error: float = 100.0,
        max_force_error: float = 1000.0,
    ) -> None:
        super().__init__()
        self._only = only
        self._limits = ErrorLimits(max_energy_error, max_force_error)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the run that is about to begin or to continue.

        Raises:
            PreflightDone: If the run was to stop here.
            DataError: If a loss is zero or absurd.
            NonFiniteError: If something is NaN or infinite; the batch is saved.
            OutOfMemoryError: If the batch does not fit into the memory of a GPU.
        """
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(pl_module, MLIPTrainEvalUnit) and isinstance(data, AtomisticDataModule):
            with unchanged(pl_module.potential):
                found = _Look(trainer, pl_module, data, self._limits).findings()
            if trainer.is_global_zero:
                folder = Path(trainer.default_root_dir)
                with atomic_write(folder / "preflight.json") as part:
                    part.write_text(json.dumps(found, indent=1) + "\n")
                (show_findings if self._only else say_findings)(found)
        if self._only:
            trainer.strategy.barrier()
            raise PreflightDone


class _Look:
    """One look at a run; every process takes the same steps."""

    def __init__(
        self,
        trainer: L.Trainer,
        module: MLIPTrainEvalUnit,
        data: AtomisticDataModule,
        limits: ErrorLimits,
    ) -> None:
        self._trainer, self._module, self._data, self._limits = trainer, module, data, limits
        self._seen: list[AtomicData] = []
        self._unreached: list[str] = []

    def findings(self) -> dict[str, Any]:
        """Return everything that was found, as plain values."""
        batches = self._batches()
        first = next(batches)
        sums = self._checked(first)
        measured = measure(lambda: self._discard(first), self._module.device)
        unseen = self._refuse_zero(sums, batches)
        return {
            "parameters": count_parameters(self._module.potential, self._module.parameter_groups),
            "labels": self._labels(),
            "findings_about_data": {
                severity: sum(f.severity == severity for f in self._data.findings)
                for severity in ("error", "warning", "info")
            },
            "first_batch": {
                "structures": list(first.sid),
                "atoms": first.num_atoms,
                "edges": first.edges.num_edges if first.edges is not None else None,
                "losses": {name: float(part.value) for name, part in sums.items()},
                "seconds": measured.seconds,
            },
            "losses_without_labels_so_far": unseen,
            "parameters_without_gradient": self._unreached,
            "forecast": asdict(self._forecast(measured)),
        }

    def _batches(self) -> Iterator[AtomicData]:
        steps = ([b] if isinstance(b, AtomicData) else b for b in self._data.train_dataloader())
        for batch in chain.from_iterable(steps):
            yield self._trainer.strategy.batch_to_device(batch, dataloader_idx=0)

    def _checked(self, batch: AtomicData) -> dict[str, LossSum]:
        """Compute losses and gradients of a batch; all processes stop if one finds a mistake."""
        error: AdatomError | None = None
        sums, raw, gradients = self._computed(batch)
        try:
            self._require_finite(sums, raw, gradients, batch)
            refuse_absurd(self._module.potential.tasks, raw, batch, self._limits)
        except AdatomError as found:
            error = found
        if on_any_rank(error is not None, self._module.device):
            raise error or ConfigError("Preflight has stopped in another process")
        self._seen.append(batch)
        return over_ranks(sums)

    def _computed(
        self, batch: AtomicData
    ) -> tuple[dict[str, LossSum], dict[str, torch.Tensor], dict[str, torch.Tensor | None]]:
        try:
            sums, raw = self._module.compute(batch)
            loss = torch.stack([part.value for part in sums.values()]).sum()
            # Gradients that are returned leave those of the parameters alone.
            found = gradients_of(loss, self._module.potential)
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"The first batch, {batch.num_atoms} atoms, does not fit into the memory of "
                f"{self._module.device}",
                fix="Lower data.batch_size, data.max_atoms or data.max_edges.",
            ) from error
        return sums, raw, found

    def _discard(self, batch: AtomicData) -> None:
        self._computed(batch)

    def _require_finite(
        self,
        sums: Mapping[str, LossSum],
        raw: Mapping[str, torch.Tensor],
        gradients: Mapping[str, torch.Tensor | None],
        batch: AtomicData,
    ) -> None:
        bad = [name for name, part in sums.items() if not bool(part.total.isfinite())]
        broken = [n for n, g in gradients.items() if g is not None and not bool(g.isfinite().all())]
        what = f"the loss of {' and '.join(bad)}" if bad else "the gradient" if broken else None
        if what is not None:
            folder = Path(self._trainer.default_root_dir)
            raise non_finite(what, self._trainer.global_step, [(batch, raw)], folder)
        self._unreached = [name for name, gradient in gradients.items() if gradient is None]

    def _refuse_zero(self, sums: dict[str, LossSum], batches: Iterator[AtomicData]) -> list[str]:
        whole_epoch = False
        while any(float(part.total) == 0.0 for part in sums.values()):
            if len(self._seen) >= _MOST_BATCHES:
                break
            batch = next(batches, None)
            if batch is None:
                whole_epoch = True
                break
            sums = add_up([sums, self._checked(batch)])
        tasks = self._module.potential.tasks
        return refuse_zero(sums, tasks, self._seen, whole_epoch=whole_epoch)

    def _labels(self) -> list[dict[str, str | int]]:
        """Return how many training structures of each dataset lack the label of each loss."""
        wanted = [
            p
            for p in ("energy", "relaxed_energy", "forces", "stress")
            if p in self._module.properties
        ]
        return [
            {
                "dataset": name,
                "structures": fact.count,
                **{f"without {p}": fact.count - fact.labelled.get(p, 0) for p in wanted},
            }
            for name, fact in self._data.facts.items()
        ]

    def _forecast(self, measured: Measured) -> Forecast:
        progress = self._trainer.fit_loop.epoch_loop.batch_progress.current
        loads = self._data.loads(self._trainer.current_epoch)
        first = progress.ready * self._data.batches_per_step
        load = int(loads[first]) if first < len(loads) else 0
        return forecast(
            measured,
            load=load,
            loads=loads,
            steps=self._module.total_steps,
            batches_per_step=self._data.batches_per_step,
            module=self._module.potential,
            device=self._module.device,
        )
