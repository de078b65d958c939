"""Run a LAMMPS script with a potential."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ase.calculators.calculator import Calculator

from adatom.core.errors import AdatomError
from adatom.core.files import require_readable
from adatom.core.precision import torch_threads
from adatom.deploy.lammps.elements import Elements
from adatom.deploy.lammps.errors import LammpsError
from adatom.deploy.lammps.external_force import Failure
from adatom.deploy.lammps.interrupts import remembered_interrupts
from adatom.deploy.lammps.library import open_lammps
from adatom.deploy.lammps.potential_fix import PotentialFix
from adatom.deploy.lammps.script_runner import ScriptRunner

Value = str | float | Sequence[str | float]


@dataclass(frozen=True)
class LammpsResult:
    """What a script did.

    Attributes:
        status: The exit status that the script's ``quit`` names, or 0.
        evaluations: How many times energies and forces were computed.
        thermo: The last line of LAMMPS's thermodynamic output, by column; empty if there is none.
    """

    status: int
    evaluations: int
    thermo: dict[str, float]


def run_lammps(
    script: str | os.PathLike[str],
    calculator: Calculator,
    elements: Elements,
    *,
    variables: Mapping[str, Value] | None = None,
    overlay: bool = False,
    log: str | os.PathLike[str] = "log.lammps",
    screen: str | os.PathLike[str] | None = None,
) -> LammpsResult:
    """Run a LAMMPS script whose forces come from an ASE calculator.

    Nothing about the potential stands in the script: it needs no ``pair_style`` (``none`` and
    ``zero`` are allowed), and may have any number of boxes, runs, minimizations, loops and
    included files. Right after a command made a simulation box, the potential is added as
    ``fix adatom``. If it fails, LAMMPS stops within that step: nothing is computed with old
    forces, and the step's structure is written to ``stopped-at-step-N.extxyz`` in the present
    folder.

    Args:
        script: LAMMPS input with ``units metal`` or ``real``.
        calculator: Gives energy (eV), forces (eV/angstrom) and stress (eV/angstrom^3), such as
            :class:`adatom.calculators.MLIPCalculator`; without stress, pressures are NaN.
        elements: Of the atom types, in their order (``["Si", "O"]``), or ``{1: "Si", 2: "O"}``.
        variables: Of the script, as LAMMPS's option ``-var``: one value, or several for a loop.
        overlay: Add the potential to interactions that the script defines, instead of refusing
            these.
        log: LAMMPS's log file, or ``"none"``.
        screen: A file for what LAMMPS prints, or ``"none"``; None prints to standard output.

    Returns:
        How it ended.

    Raises:
        MissingExtraError: If LAMMPS is not installed.
        ConfigError: If units, elements, other interactions or several ranks do not fit.
        LammpsError: If LAMMPS refuses a command, or the potential failed at a step.
        FileAccessError: If a script cannot be read.
    """
    require_readable(script)
    arguments = ["-log", str(log)]
    arguments += [] if screen is None else ["-screen", str(screen)]
    for name, value in (variables or {}).items():
        several = [value] if isinstance(value, str | float | int) else value
        arguments += ["-var", name, *map(str, several)]
    threads = torch.get_num_threads()
    # LAMMPS takes one OpenMP thread unless it is told otherwise, and that is PyTorch's number, too.
    with (
        torch_threads(threads),
        remembered_interrupts() as interrupts,
        _opened(arguments) as lmp,
    ):
        potential = PotentialFix(
            lmp, calculator, elements, threads=threads, interrupts=interrupts, overlay=overlay
        )
        status = _run(lmp, script, potential, Path.cwd())
        return LammpsResult(status, potential.evaluations, dict(lmp.last_thermo() or {}))


@contextmanager
def _opened(arguments: Sequence[str]) -> Iterator[Any]:
    lmp = open_lammps(arguments)
    try:
        yield lmp
    finally:
        lmp.close()


def _run(lmp: Any, script: str | os.PathLike[str], potential: PotentialFix, folder: Path) -> int:
    """Run the script and return its status, or raise what stopped it."""
    try:
        return ScriptRunner(lmp, potential.before, potential.after).run(script)
    except LammpsError as error:
        if potential.force is not None and potential.force.failure is not None:
            raise_failure(potential.force.failure, folder, error)
        raise


def raise_failure(failure: Failure, folder: Path, cause: Exception) -> None:
    """Raise what stopped LAMMPS, naming the step and the file of its structure.

    Args:
        failure: What the potential raised.
        folder: Where the structure is written.
        cause: What LAMMPS said.

    Raises:
        LammpsError: If the potential refused the structure.
        BaseException: What was raised, if it is no error of adatom's (Ctrl-C among them).
    """
    path = failure.write(folder)
    where = f"Its structure is in {path}." if path is not None else None
    error = failure.error
    if isinstance(error, AdatomError):
        raise LammpsError(
            f"LAMMPS was stopped at step {failure.step}, because the potential failed: "
            f"{error.message}",
            fix=where,
        ) from error
    error.add_note(f"LAMMPS was stopped at step {failure.step}. {where or ''}".rstrip())
    raise error from cause
