"""Checkpoints of a run: the last state to resume from, and the potentials to use."""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)
import torch
from lightning.pytorch.callbacks import Checkpoint

from adatom.checkpoint.format import save_potential
from adatom.core.errors import AdatomError, ConfigError
from adatom.core.files import atomic_write
from adatom.training.loggers import CsvMetrics, TensorBoardMetrics
from adatom.training.optimizer import parameter_groups
from adatom.training.resume import random_state, set_random_state
from adatom.training.train_unit import MLIPTrainEvalUnit


class InterruptedRunError(AdatomError, RuntimeError):
    """The run was interrupted by a signal after its state was saved."""


class RunCheckpoints(Checkpoint):
    """Keeps ``checkpoints/last.ckpt``, ``checkpoints/best.ckpt`` and both potentials up to date.

    ``last`` is written at the end of every epoch, every ``every_seconds`` and on SIGTERM or
    Ctrl-C; ``best`` whenever the monitored value improves. ``last.safetensors`` and
    ``best.safetensors`` hold the averaged weights.

    Args:
        every_seconds: Seconds between saves inside an epoch; null for none.
        every_steps: Steps between saves inside an epoch; null for none.
        monitor: Name of the validation result that decides which is best.
        mode: Whether ``min`` or ``max`` of it is best.
    """

    def __init__(
        self,
        *,
        every_seconds: float | None = 60.0,
        every_steps: int | None = None,
        monitor: str = "val/loss",
        mode: str = "min",
    ) -> None:
        super().__init__()
        if mode not in ("min", "max"):
            raise ConfigError(f"checkpoint.mode is {mode!r}", expected="min or max")
        self._every_seconds, self._every_steps = every_seconds, every_steps
        self.monitor, self.mode = monitor, mode
        self._sign = 1.0 if mode == "min" else -1.0
        self.best: dict[str, float] = {}
        self._best_score = math.inf
        self._random_state: dict[str, Any] | None = None
        self._rows: int | None = None
        self._should_stop = False
        self._saved_at = time.monotonic()
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}
        self._trainer: L.Trainer | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Cut the logs back to the resumed step and begin to listen for signals."""
        with atomic_write(_folder(trainer) / "parameters.txt") as part:
            part.write_text(parameter_groups(pl_module).describe() + "\n")
        for logger in trainer.loggers:
            if isinstance(logger, CsvMetrics):
                logger.keep(self._rows or 0)
            elif isinstance(logger, TensorBoardMetrics):
                logger.resume_at(trainer.global_step)
        trainer.should_stop = self._should_stop
        self._saved_at = time.monotonic()
        self._listen()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Continue the random numbers where the checkpoint left them."""
        del trainer, pl_module, batch, batch_idx
        if self._random_state is not None:
            set_random_state(self._random_state)
            self._random_state = None

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save if it is time or a signal came, except before the validation of a whole epoch."""
        del outputs, batch, batch_idx
        # After the last batch comes the validation; on_train_epoch_end saves what includes it.
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        due = self._every_steps is not None and trainer.global_step % self._every_steps == 0
        if self._every_seconds is not None:
            due = due or time.monotonic() - self._saved_at >= self._every_seconds
        if due or self._signal is not None:
            self._save(trainer, pl_module)
        self._leave(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the potential if it is the best so far."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        results = {k: float(v) for k, v in trainer.callback_metrics.items() if k[:4] == "val/"}
        if self.monitor not in results:
            raise ConfigError(
                f"checkpoint.monitor is {self.monitor!r}, which is not a validation result",
                expected=f"one of: {', '.join(sorted(results))}",
            )
        score = self._sign * results[self.monitor]
        # Not "score < best": a first score that is NaN must not leave the run without a best.
        if not self.best or score < self._best_score:
            self._best_score = score
            self.best = {"epoch": trainer.current_epoch, "step": trainer.global_step, **results}
            self._write_potential(pl_module, _folder(trainer) / "best.safetensors", self.best)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the state of the finished epoch."""
        self._save(trainer, pl_module)
        self._leave(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Without any validation, the last potential is also the best known."""
        if not self.best:
            where = {"epoch": trainer.current_epoch, "step": trainer.global_step}
            self._write_potential(pl_module, _folder(trainer) / "best.safetensors", where)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Stop listening for signals."""
        del trainer, pl_module, exception
        self._unlisten()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Stop listening for signals."""
        del trainer, pl_module, stage
        self._unlisten()

    def state_dict(self) -> dict[str, Any]:
        """Return the best result so far, random states and the length of the log."""
        return {
            "best": dict(self.best),
            "best_score": self._best_score,
            "random_state": random_state(),
            "rows": self._rows,
            "should_stop": self._should_stop,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.best = dict(state_dict["best"])
        self._best_score = state_dict["best_score"]
        self._random_state = state_dict["random_state"]
        self._rows = state_dict["rows"]
        self._should_stop = state_dict["should_stop"]

    def _save(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        csv = [logger for logger in trainer.loggers if isinstance(logger, CsvMetrics)]
        self._rows = csv[0].rows if csv else 0
        self._should_stop = bool(trainer.should_stop)
        folder = _folder(trainer)
        where = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        self._write_potential(module, folder / "last.safetensors", where)
        last = folder / "checkpoints" / "last.ckpt"
        trainer.save_checkpoint(last)
        if self.best.get("step") == trainer.global_step:
            with atomic_write(last.with_name("best.ckpt")) as part:
                shutil.copyfile(last, part)
        self._saved_at = time.monotonic()

    def _write_potential(
        self, module: L.LightningModule, path: Path, results: Mapping[str, float]
    ) -> None:
        if isinstance(module, MLIPTrainEvalUnit):
            potential = module.average.module
            finite = {k: v for k, v in results.items() if math.isfinite(v)}
            potential.metadata["training"] = finite
            with torch.no_grad():
                save_potential(potential, path)

    def _leave(self, trainer: L.Trainer) -> None:
        if self._signal is None:
            return
        name = signal.Signals(self._signal).name
        raise InterruptedRunError(
            f"The run was interrupted by {name} after step {trainer.global_step}; its state is "
            f"saved in {str(_folder(trainer))!r}",
            fix="Give the same command again to continue.",
        )

    def _listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._handlers[number] = signal.signal(number, self._heard)
            except ValueError:  # not in the main thread: signals go elsewhere
                return

    def _unlisten(self) -> None:
        while self._handlers:
            number, handler = self._handlers.popitem()
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: do not wait for the end of the step
        self._signal = number


def _folder(trainer: L.Trainer) -> Path:
    return Path(trainer.default_root_dir)
