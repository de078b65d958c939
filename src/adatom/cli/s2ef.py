"""``adatom s2ef fit|validate|test|predict``: structures to energies and forces."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger

from adatom.checkpoint.format import load_potential
from adatom.cli.arguments import Parser
from adatom.cli.trainer_options import (
    NOT_OPTIONS,
    TRAINER_CONSTANTS,
    TRAINER_DEFAULTS,
    check_precision,
    explain_missing_option,
)
from adatom.cli.training_report import write_training_report
from adatom.core.console import print_table, say
from adatom.core.errors import ConfigError, unknown_name
from adatom.data.writers import with_predictions, write_structures
from adatom.models.registry import find_class, registered_classes
from adatom.training.checkpoints import RunCheckpoints
from adatom.training.data_module import AtomisticDataModule
from adatom.training.loggers import CsvMetrics, TensorBoardMetrics
from adatom.training.logging_callback import MetricsLogging
from adatom.training.module import S2EFLightningModule
from adatom.training.preflight import Preflight, PreflightDone
from adatom.training.quiet import quiet_lightning
from adatom.training.run_directory import RunDirectory
from adatom.training.strategy import unit_strategy
from adatom.training.wandb_logger import WandbMetrics, WandbSettings

#: Options of one call that do not belong to the configuration of the run.
_NOT_CONFIGURATION = ("config", "run_dir", "checkpoint_path")


#: Groups of options that are callbacks, in the order in which these are called.
_CALLBACKS = ("preflight", "logging")

_OURS = {"model", "datamodule", "ckpt_path", "weights_only", "verbose", "dataloaders"}

#: Command to the arguments of the trainer's method that are not options.
_COMMANDS: dict[str, set[str]] = {
    "fit": _OURS | {"train_dataloaders", "val_dataloaders"},
    "validate": _OURS,
    "test": _OURS,
    "predict": _OURS | {"return_predictions"},
}


class _Parser(Parser, LightningArgumentParser):
    """Lightning's parser with mistakes as one sentence."""

    def add_class_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add the arguments of a class, none of which may be replaced by a file with its value.

        Otherwise ``data.train: structures.xyz`` would read the file as if it were configuration.
        """
        settings = kwargs | {"sub_configs": False}
        if args[0] is Trainer:
            settings["skip"] = set(NOT_OPTIONS)
        added: list[str] = super().add_class_arguments(*args, **settings)
        return added

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the mistake as one sentence; an unknown class name gets the known ones.

        Raises:
            AdatomError: Always.
        """
        missing = explain_missing_option(message)
        if missing is not None:
            raise missing from ex
        unknown = re.search(r"dot import path string: (\S+)", message)
        if unknown and unknown[1] in registered_classes():
            key = message.partition('"')[2].partition('"')[0]
            part = key.rpartition(".")[2]
            raise ConfigError(f"{unknown[1]} cannot be the {part} of a model") from ex
        if unknown:
            raise unknown_name("model class", unknown[1], registered_classes()) from ex
        super().error(message, ex)


class S2EFCLI(LightningCLI):
    """The command line; see the module."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the commands; data, model and checkpoint are chosen by us."""
        return dict(_COMMANDS)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run directory, checkpoints, logging and early stopping."""
        parser.add_argument(
            "--run_dir",
            type=str | None,
            default=None,
            help="Where the run writes; default runs/<name of the last config file>.",
        )
        parser.add_argument(
            "--checkpoint_path",
            type=str | None,
            default=None,
            help="Potential for validate, test and predict; default best.safetensors of run_dir.",
        )
        parser.add_argument(
            "--early_stopping_patience",
            type=int | None,
            default=None,
            help="Stop after this many validations without a better one; null never does.",
        )
        parser.add_argument(
            "--report",
            type=bool,
            default=True,
            help="Write report.html into run_dir when the training is done.",
        )
        parser.add_argument(
            "--wandb",
            type=WandbSettings | None,
            default=None,
            help="Log to Weights & Biases too; null does not.",
        )
        parser.add_class_arguments(Preflight, "preflight")
        parser.add_class_arguments(RunCheckpoints, "checkpoint")
        parser.add_class_arguments(MetricsLogging, "logging")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; LightningCLI's own version warns when the arguments do not come from sys.argv."""
        self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Decide where the run lives, before anything large is made."""
        chosen = self._options
        files = chosen.get("config") or []
        name = Path(os.fspath(files[-1])).stem if files else "s2ef"
        self.run = RunDirectory(chosen.get("run_dir") or Path("runs") / name)

    def instantiate_classes(self) -> None:
        """Make the objects; LightningCLI's own version calls a deprecated method of the parser."""
        self.config_init = self.parser.instantiate(self.config)
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")
        self.trainer = self.instantiate_trainer()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer with the logs and callbacks of the run."""
        config = self._get(self.config_init, "trainer")
        check_precision(config.get("precision"))
        # First, so that what is wrong stops the run before anything is written or shown.
        callbacks: list[Callback] = [self._get(self.config_init, name) for name in _CALLBACKS]
        checkpoints = self.checkpoints
        patience = self._get(self.config_init, "early_stopping_patience")
        if patience is not None:
            monitor, mode = checkpoints.monitor, checkpoints.mode
            # After validations: the last epoch may end at max_steps without one.
            stopping = EarlyStopping(
                monitor, patience=patience, mode=mode, check_on_train_epoch_end=False
            )
            callbacks.append(stopping)
        given = config.get("logger")
        loggers: list[Logger] = []
        if self.subcommand == "fit":
            loggers.append(CsvMetrics(self.run.path / "metrics.csv"))
            if given in (None, True):
                loggers.append(TensorBoardMetrics(self.run.path / "tensorboard"))
            settings = self._get(self.config_init, "wandb")
            if settings is not None:
                loggers.append(WandbMetrics(settings, self.run.path, self._plain_config()))
        if given not in (None, True, False):
            loggers += given if isinstance(given, list) else [given]
        return super().instantiate_trainer(
            **kwargs,
            **TRAINER_CONSTANTS,
            default_root_dir=str(self.run.path),
            logger=loggers,
            callbacks=[*(config.get("callbacks") or []), *callbacks, checkpoints],
            strategy=unit_strategy(config.get("strategy", "auto")),
        )

    @property
    def _options(self) -> Any:
        return self.config[str(self.subcommand)]

    def fit(self, **_: Any) -> None:
        """Train, or continue the run of this directory."""
        speaks = self.trainer.is_global_zero
        if speaks:
            self.run.begin(self._plain_config())
        if self.run.result is not None:
            if speaks:
                say(f"The run in {str(self.run.path)!r} is finished: {_ending(self.run.result)}.")
                say("Set another run_dir for a new run.")
            return
        self.datamodule.index_folder = self.run.path / "index"
        self.datamodule.setup("fit")
        resume = self.run.last_checkpoint
        if speaks:
            self.run.check_data(self.datamodule.fingerprints)
            self._start_wandb()
            if resume is not None:
                say(f"Continuing the run in {str(self.run.path)!r}.")
        started = time.monotonic()
        try:
            self.trainer.fit(
                self.model, datamodule=self.datamodule, ckpt_path=resume and str(resume)
            )
        except PreflightDone:
            if speaks:
                say("Preflight found nothing that would stop the run.")
            return
        if speaks:
            self._finish(time.monotonic() - started)

    def _start_wandb(self) -> None:
        """Begin the run of W&B before hours of training, if it cannot be."""
        for logger in self.trainer.loggers:
            if isinstance(logger, WandbMetrics) and not self._options["preflight"]["only"]:
                logger.start()

    def _finish(self, seconds: float) -> None:
        """Write down and show how the training ended."""
        best = self.checkpoints.best
        by_steps = 0 <= self.trainer.max_steps <= self.trainer.global_step
        complete = "all steps done" if by_steps else "all epochs done"
        result = {
            "reason": "early stopping" if self.trainer.should_stop else complete,
            "epochs": self.trainer.current_epoch,
            "steps": self.trainer.global_step,
            "seconds_of_last_session": round(seconds, 1),
            "best": best,
        }
        self.run.finish(result)
        report = write_training_report(self.run) if self._options["report"] else None
        _show(f"Best validation (epoch {best.get('epoch', '-')})", best, "val/")
        say(f"Potential: {self.run.path / 'best.safetensors'}")
        if report is not None:
            say(f"Report: {report}")

    @property
    def checkpoints(self) -> RunCheckpoints:
        """The callback that keeps the checkpoints."""
        found: RunCheckpoints = self._get(self.config_init, "checkpoint")
        return found

    def validate(self, **_: Any) -> None:
        """Measure the errors on the validation structures."""
        self._use_potential()
        self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)
        _show("Validation", self._measured(), "val/")

    def test(self, **_: Any) -> None:
        """Measure the errors on the test structures."""
        self._use_potential()
        self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)
        _show("Test", self._measured(), "test/")

    def predict(self, **_: Any) -> None:
        """Write the structures of ``data.predict`` with predicted energy, forces and stress."""
        self._use_potential()
        results: Any = self.trainer.predict(self.model, datamodule=self.datamodule)
        batches = self.datamodule.predict_dataloader()
        predicted = [with_predictions(*pair) for pair in zip(batches, results, strict=True)]
        path = self.run.path / "predictions.extxyz"
        write_structures(path, [system for batch in predicted for system in batch.unbatch()])
        say(f"Predictions: {path}")

    def _measured(self) -> dict[str, float]:
        """Return what the last validation or test published."""
        return {name: float(value) for name, value in self.trainer.callback_metrics.items()}

    def _use_potential(self) -> None:
        path = self._options.get("checkpoint_path") or self.run.path / "best.safetensors"
        self.model.use(load_potential(path, allow=self.model.model_classes))

    def _plain_config(self) -> dict[str, Any]:
        parser = self._parser(self.subcommand)
        text = parser.dump(self._options, skip_link_targets=False)
        config: dict[str, Any] = yaml.safe_load(text)
        config.get("preflight", {}).pop("only", None)
        return {k: v for k, v in config.items() if k not in _NOT_CONFIGURATION}


def _command_line(arguments: list[str]) -> type[S2EFCLI]:
    """Return the command line with the one command that is called, or all for the help.

    Each command's parser takes a good part of a second to build.
    """
    name = arguments[0] if arguments else ""
    if name not in _COMMANDS:
        return S2EFCLI
    one = {name: _COMMANDS[name]}
    return type("S2EFCLI", (S2EFCLI,), {"subcommands": staticmethod(lambda: one)})


def main(arguments: list[str]) -> None:
    """Run ``adatom s2ef ...``.

    Raises:
        AdatomError: On any mistake in the configuration or data, and after an interruption.
    """
    for class_path in registered_classes():
        find_class(class_path)  # imported classes can be named without their module
    with quiet_lightning():
        try:
            _command_line(arguments)(
                S2EFLightningModule,
                AtomisticDataModule,
                save_config_callback=None,
                trainer_defaults=dict(TRAINER_DEFAULTS),
                seed_everything_default=0,
                parser_class=_Parser,
                parser_kwargs={"prog": "adatom s2ef"},
                args=["--preflight.only=true" if a == "--preflight" else a for a in arguments],
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
            )
        except SystemExit as ending:
            if ending.code == 1:  # Lightning's way to end after Ctrl-C
                raise KeyboardInterrupt from ending
            raise


def _show(title: str, results: Mapping[str, Any], prefix: str) -> None:
    rows = [(k.removeprefix(prefix), f"{v:.5g}") for k, v in results.items() if prefix in k]
    if rows:
        print_table(title, ("quantity", "value (eV, A)"), rows)


def _ending(result: dict[str, Any]) -> str:
    return f"{result['reason']}, {result['epochs']} epochs, {result['steps']} steps"
