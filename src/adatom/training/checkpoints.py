"""Checkpoints of a run: the states to resume from, and the potentials to use."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)
from lightning.pytorch.callbacks import Checkpoint

from adatom.core.errors import AdatomError, ConfigError
from adatom.core.files import atomic_write
from adatom.training.checkpointing.directory import remove_partial
from adatom.training.export import save_trained
from adatom.training.interruptions import Interruptions, leave_signals_to_us, requeue
from adatom.training.loggers import CsvMetrics, TensorBoardMetrics
from adatom.training.resume import set_random_state
from adatom.training.strategy import UnitStrategy
from adatom.training.train_unit import MLIPTrainEvalUnit


class InterruptedRunError(AdatomError, RuntimeError):
    """The run was interrupted by a signal after its state was saved."""


class RunCheckpoints(Checkpoint):
    """Writes ``checkpoints/step_<n>`` to resume from, and potentials to use.

    A state is saved before the first step, at the end of every epoch, every ``every_seconds`` and
    on SIGTERM, SIGUSR1 or Ctrl-C, on any number of processes. The newest one is kept, and that of
    the best validation. ``best.safetensors`` holds the averaged weights of the best validation,
    ``last.safetensors`` those of the end.

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
        self._ends_inside_epoch = False
        self._saved_at = time.monotonic()
        self._is_resumed = False
        self._interruptions: Interruptions | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Keep Lightning's hands off the signals."""
        del pl_module, stage
        leave_signals_to_us(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Cut the logs back to the resumed step, listen for signals, save the first state."""
        folder, writer = _folder(trainer), _strategy(trainer).writer
        if trainer.is_global_zero:
            if isinstance(pl_module, MLIPTrainEvalUnit):
                with atomic_write(folder / "parameters.txt") as part:
                    part.write_text(pl_module.parameter_groups.describe() + "\n")
            remove_partial(folder / "checkpoints")
            for logger in trainer.loggers:
                if isinstance(logger, CsvMetrics):
                    logger.keep(self._rows or 0)
                elif isinstance(logger, TensorBoardMetrics):
                    logger.resume_at(trainer.global_step)
        trainer.should_stop = self._should_stop
        self._interruptions = Interruptions(writer.group)
        self._interruptions.listen()
        if not self._is_resumed:
            self._save(trainer)
        self._saved_at = time.monotonic()

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
        del outputs, batch, batch_idx, pl_module
        # After the last batch comes the validation; on_train_epoch_end saves what includes it.
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch or not self._interruptions:
            return
        if 0 <= trainer.max_steps <= trainer.global_step:
            # The last step, inside an epoch: the weights would never be validated. This is how
            # Lightning is asked to do so now; on_train_epoch_end takes it back, and saves.
            self._ends_inside_epoch = trainer.should_stop = True
            return
        waited = time.monotonic() - self._saved_at
        late = self._every_seconds is not None and waited >= self._every_seconds
        agreed = self._interruptions.after_step(due=late)
        in_turn = self._every_steps is not None and trainer.global_step % self._every_steps == 0
        if in_turn or agreed:
            self._save(trainer)
        self._leave(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the potential if it is the best so far."""
        del pl_module
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
            _save_potential(trainer, "best.safetensors", self.best)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the state of the finished epoch, or of the part of it that was left to do."""
        del pl_module
        if self._ends_inside_epoch:
            self._ends_inside_epoch = trainer.should_stop = False
        self._save(trainer)
        if self._interruptions is not None:
            self._interruptions.now()
        self._leave(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Finish the last checkpoint, and write the last potential.

        Without any validation, it is also the best known. (The end of the training is no place for
        this: it is not reached again by a run that was killed there.)
        """
        del pl_module
        _strategy(trainer).writer.wait()
        where = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        _save_potential(trainer, "last.safetensors", where)
        if not self.best:
            _save_potential(trainer, "best.safetensors", where)

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

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the random state of this process; a process that is new keeps its own."""
        del trainer, pl_module
        self._random_state = checkpoint.get("random_state")
        self._is_resumed = True

    def state_dict(self) -> dict[str, Any]:
        """Return the best result so far and the length of the log."""
        return {
            "best": dict(self.best),
            "best_score": self._best_score,
            "rows": self._rows,
            "should_stop": self._should_stop,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.best = dict(state_dict["best"])
        self._best_score = state_dict["best_score"]
        self._rows = state_dict["rows"]
        self._should_stop = state_dict["should_stop"]

    def _save(self, trainer: L.Trainer) -> None:
        csv = [logger for logger in trainer.loggers if isinstance(logger, CsvMetrics)]
        self._rows = csv[0].rows if csv else 0
        self._should_stop = bool(trainer.should_stop)
        kept = [int(self.best["step"])] if self.best else []
        trainer.save_checkpoint(_folder(trainer) / "checkpoints", storage_options=kept)
        self._saved_at = time.monotonic()

    def _leave(self, trainer: L.Trainer) -> None:
        heard = self._interruptions.signal if self._interruptions is not None else None
        if heard is None:
            return
        _strategy(trainer).writer.wait()
        if not trainer.is_global_zero:
            # One process tells it; a launcher must not take this one for failed before that.
            raise SystemExit(0)
        if heard.name == "SIGUSR1":
            requeue(os.environ)
        raise InterruptedRunError(
            f"The run was interrupted by {heard.name} after step {trainer.global_step}; its state "
            f"is saved in {str(_folder(trainer))!r}",
            fix="Give the same command again to continue.",
        )

    def _unlisten(self) -> None:
        if self._interruptions is not None:
            self._interruptions.unlisten()


def _folder(trainer: L.Trainer) -> Path:
    return Path(trainer.default_root_dir)


def _strategy(trainer: L.Trainer) -> UnitStrategy:
    if not isinstance(trainer.strategy, UnitStrategy):
        raise ConfigError(
            f"The trainer's strategy is {type(trainer.strategy).__name__}, which cannot write the "
            "checkpoints of a run",
            expected="strategy=UnitStrategy()",
        )
    return trainer.strategy


def _save_potential(trainer: L.Trainer, name: str, results: Mapping[str, float]) -> None:
    unit = trainer.lightning_module
    if isinstance(unit, MLIPTrainEvalUnit):
        save_trained(unit.average.module, _folder(trainer) / name, results)
