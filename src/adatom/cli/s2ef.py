"""``adatom s2ef fit|validate|test|predict|lr_find|scale_batch``: energies and forces."""

from __future__ import annotations

from adatom.cli.training_cli import run_training
from adatom.training.module import S2EFLightningModule


def main(arguments: list[str]) -> None:
    """Run ``adatom s2ef ...``.

    Raises:
        AdatomError: On any mistake in the configuration or data, and after an interruption.
    """
    run_training(S2EFLightningModule, arguments, "s2ef")
