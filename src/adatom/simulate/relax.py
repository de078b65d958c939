"""Relaxation of positions, or of positions and cell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE, LBFGS
from ase.optimize.optimize import Optimizer

from adatom.core.console import progress
from adatom.core.errors import AdatomError, ConfigError, WorkerDiedError, unknown_name
from adatom.core.files import require_writable
from adatom.simulate.errors import SimulationError
from adatom.simulate.stopping import stop_on_signals
from adatom.simulate.trajectory import writing

OPTIMIZERS: dict[str, type[Optimizer]] = {"FIRE": FIRE, "LBFGS": LBFGS, "BFGS": BFGS}


@dataclass(frozen=True, slots=True)
class RelaxationResult:
    """What a relaxation gave.

    Attributes:
        atoms: The last structure, with its calculator.
        converged: Whether the largest force (and stress, if the cell relaxes) is below ``fmax``.
        steps: Steps taken.
        energies: In eV, before the first step and after each.
        max_force: Largest force on an atom at the end, constraints applied, in eV/angstrom.
        stopped_by: Signal that ended the relaxation early, or None.
    """

    atoms: Atoms
    converged: bool
    steps: int
    energies: list[float]
    max_force: float
    stopped_by: str | None


def relax(
    atoms: Atoms,
    calculator: Calculator | None = None,
    *,
    cell: bool = False,
    optimizer: str = "LBFGS",
    fmax: float = 0.02,
    steps: int = 500,
    pressure_gpa: float = 0.0,
    trajectory: str | os.PathLike[str] | None = None,
    show_progress: bool = False,
) -> RelaxationResult:
    """Relax a structure; Ctrl-C and SIGTERM finish the step and return.

    Args:
        atoms: Start; never changed.
        calculator: Of energies, forces (and stress); None takes that of ``atoms``.
        cell: Relax the cell too, with the matrix-exponential parametrization of ASE's
            FrechetCellFilter.
        optimizer: ``"FIRE"``, ``"LBFGS"`` or ``"BFGS"``.
        fmax: Converged when no force is larger, in eV/angstrom.
        steps: At most this many.
        pressure_gpa: External pressure in GPa, used with ``cell``.
        trajectory: ASE ``.traj`` file to write every step to (replaced), or None.
        show_progress: Show a progress bar on standard error.

    Raises:
        ConfigError: If an argument is wrong, or the cell cannot relax because there is none.
        UnknownNameError: If the optimizer is not known.
        FileAccessError: If the trajectory cannot be written.
        SimulationError: If the energy is not finite; names the step.
        WorkerDiedError: If a process that computes is gone.
    """
    _check(atoms, cell=cell, optimizer=optimizer, fmax=fmax, steps=steps)
    if trajectory is not None:
        require_writable(trajectory)
    system = atoms.copy()
    system.calc = calculator if calculator is not None else atoms.calc
    if system.calc is None:
        raise ConfigError("The structure has no calculator", fix="Pass one to relax.")
    # Before any file is touched: an element that was never seen, a missing stress.
    system.get_potential_energy()
    target = system
    if cell:
        system.get_stress()
        target = FrechetCellFilter(system, scalar_pressure=pressure_gpa * units.GPa)
    minimizer = OPTIMIZERS[optimizer](target, logfile=None)
    with ExitStack() as stack:
        frames = None
        if trajectory is not None:
            frames = stack.enter_context(writing(trajectory, append=False))
        request = stack.enter_context(stop_on_signals())
        bar = stack.enter_context(progress("Relax", None)) if show_progress else None
        converged = False
        energies: list[float] = []
        for state in _states(minimizer, fmax, steps):
            converged = state
            energies.append(_energy(system, len(energies)))
            if frames is not None:
                frames.write(system)
            if bar is not None:
                bar.advance(1, energy=energies[-1], fmax=_max_force(system))
            if request.signal is not None:
                break
    return RelaxationResult(
        system, converged, len(energies) - 1, energies, _max_force(system), request.signal
    )


def _states(minimizer: Optimizer, fmax: float, steps: int) -> Iterator[bool]:
    """Yield whether the structure has converged, before the first step and after each."""
    taken = 0
    try:
        for converged in minimizer.irun(fmax=fmax, steps=steps):
            yield bool(converged)
            taken += 1
    except WorkerDiedError:
        raise
    except AdatomError as error:
        raise SimulationError(
            f"The relaxation failed at step {taken}: {error.found}",
            fix="Check the starting structure for atoms that are far too close.",
        ) from error


def _check(atoms: Atoms, *, cell: bool, optimizer: str, fmax: float, steps: int) -> None:
    if optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", optimizer, OPTIMIZERS)
    if not 0 < fmax < float("inf"):
        raise ConfigError(f"fmax is {fmax} eV/angstrom", expected="a positive number")
    if steps < 0:
        raise ConfigError(f"steps is {steps}", expected="0 or more")
    if cell and atoms.cell.rank < 3:
        raise ConfigError(
            f"The cell of {atoms.get_chemical_formula()} cannot relax: it has no volume",
            fix="Relax the positions only, or set a cell.",
        )


def _energy(atoms: Atoms, step: int) -> float:
    energy = float(atoms.get_potential_energy())
    if not np.isfinite(energy):
        raise SimulationError(f"The energy is not finite at step {step}")
    return energy


def _max_force(atoms: Atoms) -> float:
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())
