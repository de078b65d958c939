"""``adatom finetune BASE DATA``: train a potential further on other data."""

from __future__ import annotations

from typing import Any

from jsonargparse import auto_cli

from adatom.cli.arguments import Parser
from adatom.training.data_source import DataSource
from adatom.training.finetuning.settings import FinetuningSettings


class _Parser(Parser):
    """A parser whose arguments cannot be replaced by a file with their value.

    Otherwise ``structures.xyz`` would be read as if it were configuration.
    """

    def add_function_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add the parameters of a function."""
        return super().add_function_arguments(*args, **kwargs | {"sub_configs": False})


def main(arguments: list[str]) -> None:
    """Run the verb."""
    try:
        auto_cli(finetune_potential, args=arguments, prog="adatom finetune", parser_class=_Parser)
    except SystemExit as ending:
        if ending.code == 1:  # Lightning's way to end after Ctrl-C
            raise KeyboardInterrupt from ending
        raise


def finetune_potential(base: str, data: list[str | DataSource], **options: Any) -> None:
    """Train a potential further on other data; the same command continues an interrupted run.

    Args:
        base: Checkpoint file (of adatom, or an official fairchem one), or the name of a potential.
        data: Files with labels, or sources {path, dataset, label_keys, units}.
        **options: See FinetuningSettings.
    """
    from adatom.cli.training_report import write_training_report
    from adatom.core.console import say
    from adatom.training.environment import is_first_process
    from adatom.training.finetuning.run import finetune
    from adatom.training.run_directory import RunDirectory

    settings = FinetuningSettings(base=base, data=data, **options)
    best = finetune(settings)
    if not (settings.report and is_first_process()):
        return
    report = write_training_report(RunDirectory(best.parent))
    if report is not None:
        say(f"Report: {report}")
