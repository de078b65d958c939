"""``adatom lammps -in script --elements Si O``: a LAMMPS script with a potential."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence

from adatom.cli.arguments import leading_values, run_function
from adatom.cli.loading import Precision
from adatom.core.errors import ConfigError

#: LAMMPS's own short options, and what they are called here.
_SPELLINGS = {
    "-in": "--in",
    "-i": "--in",
    "--in": "--in",
    "-log": "--log",
    "-l": "--log",
    "-screen": "--screen",
    "-sc": "--screen",
    "-var": "--var",
    "-v": "--var",
}


def main(arguments: list[str]) -> None:
    """Run the verb."""
    run_function(run_script, lammps_spelling(arguments), "adatom lammps")


def lammps_spelling(arguments: Sequence[str]) -> list[str]:
    """Rewrite LAMMPS's options (``-in x``, ``-var n 1 2``, ``--elements Si O``) as this verb's.

    Raises:
        ConfigError: If ``-in`` or ``-var`` has no value.
    """
    script: list[str] = []
    variables: list[str] = []
    others: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name = _SPELLINGS.get(word, word)
        if name not in ("--in", "--var", "--elements"):
            others.append(name)
            continue
        values = leading_values(rest)
        if name == "--elements":
            # Where the script comes last and without -in, a dot tells it from an element.
            while len(values) > 1 and "." in values[-1]:
                script.append(values.pop())
            others += [name, " ".join(values)]
        elif len(values) < (1 if name == "--in" else 2):
            wanted = "a script" if name == "--in" else "a name and at least one value"
            raise ConfigError(f"{word} is followed by {values}", expected=wanted)
        elif name == "--in":
            script.append(values.pop(0))
            others += values
        else:
            variables.append(" ".join(values))
    return [*script, *others, *(["--var", json.dumps(variables)] if variables else [])]


def run_script(
    script: str,
    *,
    elements: str | None = None,
    model: str = "default",
    task: str | None = None,
    charge: int | None = None,
    spin: int | None = None,
    inference_settings: str = "default",
    device: str = "cpu",
    dtype: Precision | None = None,
    workers: int = 1,
    overlay: bool = False,
    log: str = "log.lammps",
    screen: str | None = None,
    var: list[str] | None = None,
) -> None:
    """Run a LAMMPS script on one process, with forces of a potential; no pair_style is needed.

    Args:
        script: LAMMPS input (``-in script`` is understood, too), with units metal or real.
        elements: Of the atom types, in their order: Si O, or "1=Si 2=O".
        model: Checkpoint file, or the name of a known potential.
        task: Dataset of the potential, the level of theory; needed if it has several.
        charge: Total charge of the atoms, for potentials that need one.
        spin: Multiplicity 2S+1, for potentials that need one.
        inference_settings: Preset: default, turbo, high-precision, batch or traineval.
        device: Where to compute.
        dtype: Precision of the network; default that of the checkpoint.
        workers: Processes that compute each step together, each with a GPU or its share of the
            cores; more than 1 needs Ray (pip install "adatom[ray]").
        overlay: Add the potential to the script's own pair_style, instead of refusing that.
        log: LAMMPS's log file, or none.
        screen: File for what LAMMPS prints, or none; default the terminal.
        var: Variables of the script, as LAMMPS has them: -var name value ...
    """
    import torch

    from adatom.calculators.ase_calculator import MLIPCalculator
    from adatom.core.console import say
    from adatom.core.files import require_readable
    from adatom.deploy.lammps.elements import elements_by_type
    from adatom.deploy.lammps.external_force import ElementWarning
    from adatom.deploy.lammps.run import run_lammps

    # What is wrong with the command is said before the potential is loaded.
    require_readable(script)
    symbols = elements_by_type(elements or "")
    variables = dict(_variable(each) for each in var or [])
    calculator = MLIPCalculator.from_checkpoint(
        model,
        task,
        inference_settings,
        device=device,
        dtype=None if dtype is None else getattr(torch, dtype),
        charge=charge,
        spin=spin,
        workers=workers,
    )
    with warnings.catch_warnings(), calculator.predict_unit:
        warnings.simplefilter("always", ElementWarning)
        warnings.showwarning = lambda message, *_args, **_kwargs: say(f"Note: {message}")
        result = run_lammps(
            script,
            calculator,
            symbols,
            variables=variables,
            overlay=overlay,
            log=log,
            screen=screen,
        )
    say(f"Computed energies and forces {result.evaluations} times.")
    if result.status:
        raise SystemExit(result.status)


def _variable(text: str) -> tuple[str, list[str]]:
    name, *values = text.split()
    return name, values
