"""What a training shows and writes down while it runs."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)
from lightning.pytorch.callbacks import Callback

from adatom.core.console import ProgressBar, progress
from adatom.core.errors import ConfigError
from adatom.training.loggers import CsvMetrics
from adatom.training.throughput import Throughput
from adatom.training.train_unit import MLIPTrainEvalUnit

#: Names of results worth a place beside the progress bar, and how they are called there.
_SHORT = {
    "val/loss": "val",
    "val/energy_per_atom_mae": "E eV/atom",
    "val/forces_mae": "F eV/A",
    "val/relaxed_energy_mae": "E eV",
}


class MetricsLogging(Callback):
    """Log every n-th step and every validation to all loggers; show progress with remaining time.

    Rows are written before a checkpoint of the same step can be, so that a resumed run has each of
    them exactly once. Train values are those of one batch in normalized units; validation values
    come from the averaged weights, in eV and angstrom. Atoms, structures and edges per second of
    all processes go to ``speed.csv`` in the run directory and to the other loggers, but not to
    ``metrics.csv``, which is the same for every repetition of a run.

    Args:
        every_n_steps: From the first step of the run on.

    Raises:
        ConfigError: If it is below 1.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise ConfigError(f"logging.every_n_steps is {every_n_steps}", expected="1 or more")
        self._every = every_n_steps
        self._bar: ProgressBar | None = None
        self._stack = ExitStack()
        self._shown: dict[str, Any] = {}
        self._last_drawn = 0.0
        self._undrawn = 0
        self._throughput = Throughput()
        self._speed: CsvMetrics | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the progress bar."""
        if trainer.loggers and trainer.is_global_zero:
            self._speed = CsvMetrics(Path(trainer.default_root_dir) / "speed.csv")
            self._speed.keep_all()
        if isinstance(pl_module, MLIPTrainEvalUnit) and trainer.is_global_zero:
            bar = progress("Training", pl_module.total_steps)
            self._bar = self._stack.enter_context(bar)
            self._undrawn = trainer.global_step

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let the clock of the throughput run."""
        del trainer, pl_module
        self._throughput.resume()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock of the throughput."""
        del trainer, pl_module
        self._throughput.pause()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log the step if its turn has come."""
        del outputs, batch_idx
        if not isinstance(pl_module, MLIPTrainEvalUnit):
            return
        self._throughput.add(batch if isinstance(batch, list) else [batch])
        step = trainer.global_step
        if step % self._every == 0:
            values = {f"train/{name}": float(value) for name, value in pl_module.last.items()}
            values["train/lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
            self._log(trainer, {"epoch": trainer.current_epoch, **values})
            # All ranks are here at the same step, and add up.
            self._log_speed(trainer, self._throughput.rates(pl_module.device))
        self._draw(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the results of a validation."""
        del pl_module
        self._throughput.resume()
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        results = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        self._log(trainer, {"epoch": trainer.current_epoch, **results})
        self._shown = {short: results[name] for name, short in _SHORT.items() if name in results}

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Close the progress bar, also after an error."""
        del trainer, pl_module, stage
        self._stack.close()
        self._bar = None

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Close the progress bar before a message is printed."""
        del exception
        self.teardown(trainer, pl_module, "fit")

    def _log(self, trainer: L.Trainer, values: dict[str, Any]) -> None:
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics(values, step=trainer.global_step)

    def _log_speed(self, trainer: L.Trainer, rates: dict[str, float]) -> None:
        if self._speed is None:
            return
        values = {f"train/{name}": value for name, value in rates.items()}
        for logger in [self._speed, *trainer.loggers]:
            if logger is self._speed or not isinstance(logger, CsvMetrics):
                logger.log_metrics(values, step=trainer.global_step)

    def _draw(self, trainer: L.Trainer, module: MLIPTrainEvalUnit) -> None:
        self._undrawn += 1
        now = time.monotonic()
        # Drawing takes longer than a small network's step.
        if self._bar is not None and now - self._last_drawn > 0.2:
            shown = {"epoch": trainer.current_epoch, "loss": float(module.last["loss"])}
            self._bar.advance(self._undrawn, **shown, **self._shown)
            self._last_drawn, self._undrawn = now, 0
