"""The command line of a training: fit, validate, test, predict, and helpers before it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from adatom.checkpoint.format import load_potential
from adatom.cli.optimizer_options import choose_optimizer
from adatom.cli.trainer_options import TRAINER_CONSTANTS, TRAINER_DEFAULTS, check_precision
from adatom.cli.training_parser import TrainingParser, names_data_class
from adatom.cli.training_report import write_training_report
from adatom.cli.tuning_tables import show_batches, show_rates
from adatom.core.console import print_table, say
from adatom.core.errors import ConfigError
from adatom.data.writers import with_predictions, write_structures
from adatom.models.registry import find_class, registered_classes
from adatom.training.binding import ProcessBinding
from adatom.training.checkpoints import RunCheckpoints
from adatom.training.data_module import AtomisticDataModule
from adatom.training.loggers import CsvMetrics, TensorBoardMetrics
from adatom.training.logging_callback import MetricsLogging
from adatom.training.preflight import Preflight, PreflightDone
from adatom.training.quiet import first_process_speaks, quiet_lightning
from adatom.training.run_directory import RunDirectory
from adatom.training.strategy import unit_strategy
from adatom.training.train_unit import MLIPTrainEvalUnit
from adatom.training.tuning import UnitTrainer
from adatom.training.wandb_logger import WandbMetrics, WandbSettings

#: Options of one call that do not belong to the configuration of the run.
_NOT_CONFIGURATION = ("config", "run_dir", "checkpoint_path")


#: Groups of options that are callbacks, in the order in which these are called.
_CALLBACKS = ("binding", "preflight", "logging")

#: Helpers before a training, which leave no run directory.
_HELPERS = ("lr_find", "scale_batch")

_OURS = {"model", "datamodule", "ckpt_path", "weights_only", "verbose", "dataloaders"}

#: Command to the arguments of the trainer's method that are not options.
_COMMANDS: dict[str, set[str]] = {
    "fit": _OURS | {"train_dataloaders", "val_dataloaders"},
    "validate": _OURS,
    "test": _OURS,
    "predict": _OURS | {"return_predictions"},
    "lr_find": _OURS,
    "scale_batch": _OURS,
}


class TrainingCLI(LightningCLI):
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
        parser.add_class_arguments(ProcessBinding, "binding")
        parser.add_class_arguments(Preflight, "preflight")
        parser.add_class_arguments(RunCheckpoints, "checkpoint")
        parser.add_class_arguments(MetricsLogging, "logging")
        parser.add_optimizer_args((Optimizer,))
        parser.add_lr_scheduler_args((LRScheduler,))
        parser.add_argument(
            "--lr_scheduler_interval",
            type=Literal["epoch", "step"],
            default="epoch",
            help="Whether lr_scheduler goes on after each epoch or after each step.",
        )
        seed = "data.init_args.seed" if self.subclass_mode_data else "data.seed"
        parser.link_arguments("seed_everything", seed, compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; LightningCLI's own version warns when the arguments do not come from sys.argv."""
        self.config = parser.parse_args(args)
        command = self.config["subcommand"]
        chosen = cast("TrainingParser", self._parser(command))
        chosen.refuse_unknown_keys(self.config[command].get("config") or [])

    def before_instantiate_classes(self) -> None:
        """Decide where the run lives, before anything large is made."""
        chosen = self._options
        files = chosen.get("config") or []
        name = Path(os.fspath(files[-1])).stem if files else self.parser.prog.split()[-1]
        self.run = RunDirectory(chosen.get("run_dir") or Path("runs") / name)

    def instantiate_classes(self) -> None:
        """Make the objects; LightningCLI's own version calls a deprecated method of the parser."""
        self.config_init = self.parser.instantiate(self.config)
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")
        choose_optimizer(self.model.optimization, self._options)
        self.trainer = self.instantiate_trainer()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer with the logs and callbacks of the run."""
        config = self._get(self.config_init, "trainer")
        check_precision(config.get("precision"))
        strategy = unit_strategy(config.get("strategy") or "auto")
        if self.subcommand in _HELPERS:
            return super().instantiate_trainer(
                **kwargs,
                **TRAINER_CONSTANTS,
                default_root_dir=tempfile.gettempdir(),
                logger=False,
                enable_checkpointing=False,
                callbacks=list(config.get("callbacks") or []),
                strategy=strategy,
            )
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
            strategy=strategy,
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
        """Write the structures of ``data.predict`` with predicted energy, forces and stress.

        Raises:
            ConfigError: If there are several processes: each would write its part over the others'.
        """
        if self.trainer.world_size > 1:
            raise ConfigError(
                f"predict is asked for {self.trainer.world_size} processes",
                expected="one, which writes all structures",
                fix="Set trainer.devices: 1 and trainer.num_nodes: 1.",
            )
        self._use_potential()
        results: Any = self.trainer.predict(self.model, datamodule=self.datamodule)
        batches = self.datamodule.predict_dataloader()
        predicted = [with_predictions(*pair) for pair in zip(batches, results, strict=True)]
        path = self.run.path / "predictions.extxyz"
        write_structures(path, [system for batch in predicted for system in batch.unbatch()])
        say(f"Predictions: {path}")

    def lr_find(self, **options: Any) -> None:
        """Print how the loss depends on the learning rate, and which one would do."""
        self.datamodule.index_folder = self.run.path / "index"
        trainer: Any = self.trainer
        curve = trainer.lr_find(self.model, self.datamodule, **_own(options))
        if self.trainer.is_global_zero:
            show_rates(curve, of_torch=self.model.optimization.optimizer is not None)

    def scale_batch(self, **options: Any) -> None:
        """Print what larger and larger batches cost."""
        self.datamodule.index_folder = self.run.path / "index"
        trainer: Any = self.trainer
        setting = "data.init_args.batch_size" if self.subclass_mode_data else "data.batch_size"
        show_batches(trainer.scale_batch(self.model, self.datamodule, **_own(options)), setting)

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


class _Names(TrainingCLI):
    """Knows the names of the commands and none of their options, for the help and for mistakes.

    Each command's parser takes a good part of a second to build.
    """

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        del klass, subcommand
        return self.init_parser(**kwargs)


def _command_line(arguments: list[str]) -> type[TrainingCLI]:
    """Return the command line with the one command that is called, or with all."""
    name = arguments[0] if arguments else ""
    if name in _COMMANDS:
        one = {name: _COMMANDS[name]}
        return type("TrainingCLI", (TrainingCLI,), {"subcommands": staticmethod(lambda: one)})
    # A configuration before the command may have a part for each command.
    return TrainingCLI if {"--config", "-c"} & set(arguments) else _Names


def run_training(
    model: type[MLIPTrainEvalUnit], arguments: list[str], verb: str, description: str = ""
) -> None:
    """Run ``adatom <verb> ...``.

    Args:
        model: What is trained.
        arguments: What follows the verb.
        verb: Name in the help, and of the run directory where there is no file.
        description: For the help.

    Raises:
        AdatomError: On any mistake in the configuration or data, and after an interruption.
    """
    for class_path in registered_classes():
        find_class(class_path)  # imported classes can be named without their module
    with quiet_lightning(), first_process_speaks():
        try:
            _command_line(arguments)(
                model,
                AtomisticDataModule,
                save_config_callback=None,
                trainer_class=UnitTrainer,
                trainer_defaults=dict(TRAINER_DEFAULTS),
                seed_everything_default=0,
                parser_class=TrainingParser,
                parser_kwargs={"prog": f"adatom {verb}", "description": description or None},
                subclass_mode_data=names_data_class(arguments),
                args=["--preflight.only=true" if a == "--preflight" else a for a in arguments],
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
            )
        except SystemExit as ending:
            if ending.code == 1:  # Lightning's way to end after Ctrl-C
                raise KeyboardInterrupt from ending
            raise


def _own(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in _OURS}


def _show(title: str, results: Mapping[str, Any], prefix: str) -> None:
    rows = [(k.removeprefix(prefix), f"{v:.5g}") for k, v in results.items() if prefix in k]
    if rows:
        print_table(title, ("quantity", "value (eV, A)"), rows)


def _ending(result: dict[str, Any]) -> str:
    return f"{result['reason']}, {result['epochs']} epochs, {result['steps']} steps"
