"""``adatom is2re fit|...|relax``: from initial structures to relaxed energies."""

from __future__ import annotations


def main(arguments: list[str]) -> None:
    """Run ``adatom is2re ...``.

    Raises:
        AdatomError: On any mistake in the configuration or data, and after an interruption.
    """
    if arguments[:1] == ["relax"]:
        from adatom.cli.arguments import run_function
        from adatom.cli.relaxed_energies import relaxed_energies

        run_function(relaxed_energies, arguments[1:], "adatom is2re relax")
        return
    from adatom.cli.training_cli import run_training
    from adatom.training.module import IS2RELightningModule

    run_training(
        IS2RELightningModule,
        arguments,
        "is2re",
        description="From initial structures to relaxed energies, directly. ('adatom is2re relax' "
        "relaxes the structures with a potential for energies and forces instead.)",
    )
