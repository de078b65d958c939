"""One run of molecular dynamics among many: its state on the disk and its log."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from adatom.core.errors import ConfigError
from adatom.simulate.batched.intake import Structure, check_constraints
from adatom.simulate.batched.relaxed import bare
from adatom.simulate.ensembles import NPT, NVE, NVT, Ensemble, StepRandom, thermalize
from adatom.simulate.md import check_numbers, resume_from
from adatom.simulate.md_log import LogRow, LogWriter, logging_to, measure
from adatom.simulate.trajectory import has_frames, writing


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """One run that shall be made.

    Attributes:
        structure: Start; never changed. An ASE structure may have momenta; where there are none,
            they are drawn at the ensemble's temperature.
        ensemble: NVE, NVT or NPT.
        steps: Number of steps, counted from the start of the trajectory.
        timestep: In fs.
        seed: Of momenta and thermostat: the run is the same with whatever it is computed.
        interval: Steps between frames and between log rows.
        trajectory: ASE ``.traj`` file, or None.
        log: CSV file, or None.

    Raises:
        ConfigError: If a number cannot be used.
    """

    structure: Structure
    ensemble: Ensemble = field(default_factory=NVT)
    steps: int = 1000
    timestep: float = 1.0
    seed: int = 0
    interval: int = 10
    trajectory: str | os.PathLike[str] | None = None
    log: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        check_numbers(steps=self.steps, interval=self.interval, timestep=self.timestep)
        StepRandom(self.seed)

    @property
    def settings(self) -> dict[str, Any]:
        """What a restart must not change."""
        return {**self.ensemble.settings(), "timestep": self.timestep, "seed": self.seed}


class Flight:
    """A run on its way.

    Args:
        number: Its place among the runs.
        run: What shall be done.
        restart: Continue its trajectory, if there is one.

    Attributes:
        atoms: The state when it was last recorded, with momenta.
        step: Steps so far.
        saved: The last step that was recorded.
        rows: The log.
        state: What the integrator has to know beside momenta when a run is continued.
        random: Source of the thermostat's numbers; None without a thermostat.

    Raises:
        AdatomError: If a restart finds another structure, other settings or a damaged file.
    """

    def __init__(self, number: int, run: Dynamics, *, restart: bool) -> None:
        self.number = number
        self.run = run
        self.rows: list[LogRow] = []
        random = StepRandom(run.seed)
        atoms = bare(run.structure)
        check_constraints(atoms, str(atoms.info.get("sid") or number))
        self.step = 0
        self.state: dict[str, float] = {}
        self.continues = restart and run.trajectory is not None and has_frames(run.trajectory)
        if self.continues and run.trajectory is not None:
            atoms, self.step, self.state = resume_from(run.trajectory, atoms, run.settings)
        elif not atoms.get_momenta().any():
            thermalize(atoms, run.ensemble.temperature, random)
        self.atoms: Atoms = atoms
        self.saved = self.step
        if isinstance(run.ensemble, NPT):
            run.ensemble.check(atoms)
        friction = 0.0 if isinstance(run.ensemble, NVE) else run.settings["friction"]
        self.random = random if friction * run.ensemble.temperature > 0 else None

    @property
    def is_over(self) -> bool:
        """Whether all steps were taken."""
        return self.step >= self.run.steps

    def records_at(self, step: int) -> bool:
        """Tell whether a frame and a row belong to a step."""
        return step % self.run.interval == 0 or step >= self.run.steps

    def open(self) -> None:
        """Create the log, or cut it where the trajectory ends."""
        if self.run.log is not None:
            with logging_to(self.run.log, keep_until=self.step if self.continues else None):
                pass

    def record(
        self,
        pos: npt.NDArray[np.float64],
        cell: npt.NDArray[np.float64],
        momenta: npt.NDArray[np.float64],
        results: dict[str, Any],
        state: dict[str, float],
    ) -> None:
        """Keep the present state and write it (the row first: see ``logging_to``).

        Args:
            pos: ``[n, 3]`` in angstrom.
            cell: ``[3, 3]`` in angstrom.
            momenta: ``[n, 3]`` in ASE's units.
            results: ASE's names to values.
            state: What the integrator needs besides for a restart.
        """
        self.atoms.set_cell(cell)
        self.atoms.positions[:] = pos
        self.atoms.set_momenta(momenta, apply_constraint=False)
        self.atoms.calc = SinglePointCalculator(self.atoms, **results)
        row = measure(self.atoms, self.step, self.run.timestep)
        first = not self.rows
        self.rows.append(row)
        self.saved = self.step
        if first and self.continues:
            return
        if self.run.log is not None:
            with Path(self.run.log).open("a", newline="", encoding="utf-8") as stream:
                LogWriter(stream).write(row)
        if self.run.trajectory is not None:
            with writing(self.run.trajectory, append=not first or self.continues) as frames:
                frames.write(self.atoms, {**self.run.settings, "step": self.step, "state": state})


def check_distinct(runs: list[Dynamics]) -> None:
    """Refuse runs that would write to one file.

    Raises:
        ConfigError: Naming the file.
    """
    seen: set[Path] = set()
    for path in (path for run in runs for path in (run.trajectory, run.log) if path is not None):
        name = Path(path).resolve()
        if name in seen:
            raise ConfigError(
                f"Two runs would write to {str(path)!r}", fix="Give each a file of its own."
            )
        seen.add(name)
