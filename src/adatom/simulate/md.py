"""Molecular dynamics with exact restart."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from adatom.core.console import progress
from adatom.core.errors import (
    AdatomError,
    ConfigError,
    DataError,
    FileAccessError,
    WorkerDiedError,
)
from adatom.core.files import require_writable
from adatom.simulate.ensembles import NVT, Ensemble, Integrator, StepRandom, thermalize
from adatom.simulate.errors import SimulationError
from adatom.simulate.md_log import LogRow, LogWriter, logging_to, measure
from adatom.simulate.stopping import stop_on_signals
from adatom.simulate.trajectory import FrameWriter, last_frame, writing


@dataclass(frozen=True, slots=True)
class MDResult:
    """What a run gave.

    Attributes:
        atoms: The last state, with momenta and calculator.
        steps: Steps since the start of the trajectory.
        log: One row per ``interval`` steps of this run, the first state included.
        stopped_by: Signal that ended the run early, or None.
        steps_per_second: Wall-clock speed.
        ns_per_day: Simulated time per day of wall clock.
    """

    atoms: Atoms
    steps: int
    log: list[LogRow]
    stopped_by: str | None
    steps_per_second: float
    ns_per_day: float


def run_md(
    atoms: Atoms,
    calculator: Calculator | None = None,
    *,
    ensemble: Ensemble | None = None,
    steps: int = 1000,
    timestep: float = 1.0,
    seed: int = 0,
    trajectory: str | os.PathLike[str] | None = None,
    log: str | os.PathLike[str] | None = None,
    interval: int = 10,
    restart: bool = False,
    overwrite: bool = False,
    max_temperature: float = 20000.0,
    show_progress: bool = False,
    on_step: Callable[[Atoms, int], None] | None = None,
) -> MDResult:
    """Run molecular dynamics.

    Momenta are drawn at the ensemble's temperature unless the structure has some. Ctrl-C and
    SIGTERM finish the step, save it and return. A restarted run continues exactly as the
    uninterrupted one would have: random numbers depend on the seed and the step alone.

    Args:
        atoms: Start; never changed.
        calculator: Of energies and forces; None takes that of ``atoms``.
        ensemble: What is held constant; default Langevin NVT at 300 K.
        steps: Number of steps, counted from the start of the trajectory (also after a restart).
        timestep: In fs.
        seed: Of momenta and thermostat.
        trajectory: ASE ``.traj`` file to write, or None.
        log: CSV file to write, or None.
        interval: Steps between frames and between log rows.
        restart: Continue from the last frame of ``trajectory``, up to ``steps``.
        overwrite: Replace an existing trajectory and log.
        max_temperature: In K; above it the run stops, because the atoms fly apart.
        show_progress: Show a progress bar with steps/s and ns/day on standard error.
        on_step: Called with the atoms and the step after every step (and before the first).

    Returns:
        The last state and the log.

    Raises:
        ConfigError: If an argument is wrong, or a restart has other settings than the trajectory.
        FileAccessError: If an output cannot be written or would be replaced.
        DataError: If a restart finds no usable frame.
        SimulationError: If the energy is not finite or the temperature explodes; names the step.
        WorkerDiedError: If a process that computes is gone; the trajectory can be continued.
    """
    ensemble = NVT() if ensemble is None else ensemble
    check_numbers(steps=steps, interval=interval, timestep=timestep)
    check_outputs(trajectory, log, restart=restart, overwrite=overwrite)
    random = StepRandom(seed)
    settings = {**ensemble.settings(), "timestep": timestep, "seed": seed}
    if restart and trajectory is not None:
        system, first, state = resume_from(trajectory, atoms, settings)
    else:
        system, first, state = atoms.copy(), 0, {}
    system.calc = calculator if calculator is not None else atoms.calc
    if system.calc is None:
        raise ConfigError("The structure has no calculator", fix="Pass one to run_md.")
    if first == 0 and not state and not system.get_momenta().any():
        thermalize(system, ensemble.temperature, random)
    # Before any file is touched: an element that was never seen, atoms on top of each other.
    system.get_forces()
    integrator = ensemble.integrator(system, timestep, random)
    if state:
        ensemble.restore(integrator, state)
    run = _Run(
        system=system,
        ensemble=ensemble,
        integrator=integrator,
        random=random,
        settings=settings,
        timestep=timestep,
    )
    with ExitStack() as stack:
        if trajectory is not None:
            run.frames = stack.enter_context(writing(trajectory, append=restart))
        if log is not None:
            run.rows = stack.enter_context(logging_to(log, keep_until=first if restart else None))
        return run.go(
            first,
            steps,
            interval=interval,
            max_temperature=max_temperature,
            show_progress=show_progress,
            on_step=on_step or _nothing,
        )


@dataclass(kw_only=True, eq=False)
class _Run:
    """One run from its first step to its last."""

    system: Atoms
    ensemble: Ensemble
    integrator: Integrator
    random: StepRandom
    settings: dict[str, Any]
    timestep: float
    frames: FrameWriter | None = None
    rows: LogWriter | None = None
    log: list[LogRow] = field(default_factory=list)

    def go(
        self,
        first: int,
        steps: int,
        *,
        interval: int,
        max_temperature: float,
        show_progress: bool,
        on_step: Callable[[Atoms, int], None],
    ) -> MDResult:
        """Take the steps after ``first`` up to ``steps``."""
        saved = first
        step = first
        # After a restart the first state is already in the files.
        self.record(first, write=first == 0)
        on_step(self.system, first)
        start = time.perf_counter()
        with ExitStack() as stack:
            request = stack.enter_context(stop_on_signals())
            bar = stack.enter_context(progress("MD", steps - first)) if show_progress else None
            while step < steps and request.signal is None:
                self.take_step(step, saved, max_temperature)
                step += 1
                on_step(self.system, step)
                if bar is not None:
                    bar.advance(1, **self.speed(step - first, start))
                if step % interval == 0 or step == steps or request.signal is not None:
                    self.record(step)
                    saved = step
            if saved != step:
                self.record(step)
        speed = self.speed(step - first, start)
        return MDResult(
            self.system, step, self.log, request.signal, speed["steps/s"], speed["ns/day"]
        )

    def take_step(self, step: int, saved: int, max_temperature: float) -> None:
        """Integrate from ``step`` to the next, or say why that is not possible."""
        self.random.begin_step(step)
        fix = f"The last saved state is step {saved}. Try a shorter timestep or relax first."
        where = f"at step {step + 1} ({(step + 1) * self.timestep:g} fs)"
        try:
            self.integrator.step()
        except WorkerDiedError as error:
            raise WorkerDiedError(
                f"The dynamics stopped {where}: {error.found}",
                fix=f"The last saved state is step {saved}; continue with restart (--restart).",
            ) from error
        except AdatomError as error:
            raise SimulationError(f"The dynamics failed {where}: {error.found}", fix=fix) from error
        energy = self.system.get_potential_energy()
        temperature = self.system.get_temperature()
        if not (np.isfinite(energy) and np.isfinite(temperature)):
            raise SimulationError(f"The energy is not finite {where}", fix=fix)
        if temperature > max_temperature:
            raise SimulationError(
                f"The temperature is {temperature:.0f} K {where}",
                expected=f"at most {max_temperature:g} K",
                fix=fix,
            )

    def record(self, step: int, *, write: bool = True) -> None:
        """Keep one log row, and write it and the frame (the row first: see ``logging_to``)."""
        row = measure(self.system, step, self.timestep)
        self.log.append(row)
        if not write:
            return
        if self.rows is not None:
            self.rows.write(row)
        if self.frames is not None:
            state = self.ensemble.state(self.integrator)
            self.frames.write(self.system, {**self.settings, "step": step, "state": state})

    def speed(self, steps: int, start: float) -> dict[str, float]:
        """Return steps/s and ns/day since ``start``."""
        rate = steps / max(time.perf_counter() - start, 1e-9)
        return {"steps/s": rate, "ns/day": rate * self.timestep * 86400e-6}


def resume_from(
    trajectory: str | os.PathLike[str], atoms: Atoms, settings: dict[str, Any]
) -> tuple[Atoms, int, dict[str, float]]:
    """Return the last saved state of a run, to be continued.

    Args:
        trajectory: The file.
        atoms: The structure that the run was started with.
        settings: Of the run; they have to be those of the trajectory.

    Returns:
        The state, its step and the integrator's numbers.

    Raises:
        FileAccessError: If there is no such file.
        DataError: If it has no usable frame, or one of another structure.
        ConfigError: If the trajectory was made with other settings.
    """
    system, facts = last_frame(trajectory)
    if not np.array_equal(system.numbers, atoms.numbers):
        raise DataError(
            f"The trajectory {str(trajectory)!r} is of {system.get_chemical_formula()}, the "
            f"structure is {atoms.get_chemical_formula()}",
            fix="Give the structure that the run was started with.",
        )
    for name, value in settings.items():
        if facts.get(name) != value:
            raise ConfigError(
                f"{name} is {value}, but the trajectory {str(trajectory)!r} was made with "
                f"{facts.get(name)}",
                fix="Restart with the same settings, or start a new run from its last frame.",
            )
    return system, int(facts["step"]), dict(facts["state"])


def check_numbers(*, steps: int, interval: int, timestep: float) -> None:
    """Refuse numbers that no run can use.

    Args:
        steps: As for :func:`run_md`.
        interval: As for :func:`run_md`.
        timestep: As for :func:`run_md`.

    Raises:
        ConfigError: If one of them is out of range.
    """
    for name, value, least in (("steps", steps, 0), ("interval", interval, 1)):
        if value < least:
            raise ConfigError(f"{name} is {value}", expected=f"at least {least}")
    if not 0 < timestep < float("inf"):
        raise ConfigError(f"timestep is {timestep} fs", expected="a positive number")


def check_outputs(
    trajectory: str | os.PathLike[str] | None,
    log: str | os.PathLike[str] | None,
    *,
    restart: bool,
    overwrite: bool,
) -> None:
    """Refuse outputs that cannot be written or would replace something; nothing is created.

    Args:
        trajectory: As for :func:`run_md`.
        log: As for :func:`run_md`.
        restart: As for :func:`run_md`.
        overwrite: As for :func:`run_md`.

    Raises:
        ConfigError: If a restart has no trajectory, or is also to overwrite it.
        FileAccessError: If a file cannot be written or exists.
    """
    if restart and (trajectory is None or overwrite):
        raise ConfigError(
            "A restart continues a trajectory, "
            + ("but none is given" if trajectory is None else "which overwrite would replace")
        )
    for path in (trajectory, log):
        if path is None:
            continue
        require_writable(path)
        if Path(path).exists() and not (restart or overwrite):
            raise FileAccessError(
                f"The output {str(path)!r} exists",
                fix="Continue it with --restart, replace it with --overwrite, or choose another.",
            )


def _nothing(atoms: Atoms, step: int) -> None:
    """Do nothing after a step."""
