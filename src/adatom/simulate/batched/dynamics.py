"""Many runs of molecular dynamics advance together; each ends after its own steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ase import Atoms

from adatom.calculators.unit_of import predict_unit_of
from adatom.core.console import ProgressBar
from adatom.core.errors import AdatomError
from adatom.core.units import matrix_to_voigt
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.simulate.batched.barostat import BarostatIntegrator
from adatom.simulate.batched.evaluation import Evaluated, Evaluator, reason
from adatom.simulate.batched.flight import Dynamics, Flight, check_distinct
from adatom.simulate.batched.intake import Entry, Intake, Refused
from adatom.simulate.batched.integrator import (
    BatchIntegrator,
    LangevinIntegrator,
    temperatures,
)
from adatom.simulate.batched.pool import Pool
from adatom.simulate.batched.relaxation import Model, require_stress
from adatom.simulate.batched.rows import Rows
from adatom.simulate.ensembles import NPT
from adatom.simulate.md import check_outputs
from adatom.simulate.md_log import LogRow
from adatom.simulate.stopping import StopRequest

#: Systems that are computed together at most.
_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class DynamicsRecord:
    """What one of many runs gave.

    Attributes:
        number: Its place among the runs.
        sid: The structure's name.
        atoms: The last state that was recorded, with momenta and results; None if the run never
            began.
        steps: Steps since the start of the trajectory, up to that state.
        log: One row per interval of this run, the first state included.
        error: Why it failed, or None.
    """

    number: int
    sid: str
    atoms: Atoms | None
    steps: int
    log: list[LogRow]
    error: str | None = None


def run_many_md(
    runs: Iterable[Dynamics],
    model: Model,
    *,
    task_name: str | None = None,
    restart: bool = False,
    overwrite: bool = False,
    max_temperature: float = 20000.0,
    limit: int = _LIMIT,
    stop: StopRequest | None = None,
    bar: ProgressBar | None = None,
) -> list[DynamicsRecord]:
    """Run many molecular dynamics together, each with its own ensemble, time step and length.

    A run depends on its structure, settings and seed alone: it is the one that
    :func:`adatom.simulate.md.run_md` makes, to rounding, whatever is computed beside it. Its
    files are the same too.

    Args:
        runs: What to run.
        model: Name or path of a checkpoint, a potential, or a predict unit.
        task_name: The level of theory, needed only if the potential has several.
        restart: Continue the runs that have a trajectory, and begin the others.
        overwrite: Replace existing trajectories and logs.
        max_temperature: In K; above it a run ends, because its atoms fly apart.
        limit: Systems computed together at most.
        stop: Ends all runs after the step in which it gets a signal; their states are saved.
        bar: Moved forward by the steps, also by those of a run that is continued.

    Returns:
        One record per run, in order; of one that failed, why. If a signal stopped them, those
        that had begun.

    Raises:
        ConfigError: If the task has to be chosen, or two runs would write to one file.
        FileAccessError: If an output cannot be written or would be replaced.
        UnknownNameError: If there is no such task.
    """
    runs = list(runs)
    check_distinct(runs)
    for run in runs:
        continued = restart and run.trajectory is not None
        check_outputs(run.trajectory, run.log, restart=continued, overwrite=overwrite)
    unit, records = predict_unit_of(model), list[DynamicsRecord]()
    numbered = list(enumerate(runs))
    pressed = [(i, run) for i, run in numbered if isinstance(run.ensemble, NPT)]
    others = [(i, run) for i, run in numbered if not isinstance(run.ensemble, NPT)]
    for some, integrator in ((others, LangevinIntegrator()), (pressed, BarostatIntegrator())):
        fleet = _Fleet(unit, some, integrator, task_name, restart, max_temperature, limit)
        while not fleet.is_over:
            stopping = stop is not None and stop.signal is not None
            records += fleet.advance(stopping=stopping, bar=bar)
        records += fleet.finished
    return sorted(records, key=lambda record: record.number)


class _Fleet:
    """All runs from their first step to their last."""

    def __init__(
        self,
        unit: MLIPPredictUnit,
        runs: Sequence[tuple[int, Dynamics]],
        integrator: BatchIntegrator,
        task_name: str | None,
        restart: bool,
        max_temperature: float,
        limit: int,
    ) -> None:
        self.evaluator = Evaluator(unit)
        self.finished: list[DynamicsRecord] = []
        self.flights: list[Flight] = []
        starts = self._starts(runs, restart)
        intake = Intake(starts, unit, task_name)
        self.gives_stress = "stress" in unit.potential.properties(intake.task_name)
        if runs and integrator.needs_stress:
            require_stress(unit, intake.task_name)
        names = ["energy", "forces", "stress"] if self.gives_stress else ["energy", "forces"]
        self.integrator = integrator
        self.pool = Pool(intake, unit.runner, names, limit)
        self.max_temperature = max_temperature
        self.rows = Rows(torch.zeros(0, dtype=torch.int64, device=unit.device))
        self.is_over = False
        self.steps_before = 0

    def advance(self, *, stopping: bool, bar: ProgressBar | None) -> list[DynamicsRecord]:
        """Let runs in, finish the step of those on their way, and begin the next one."""
        records = [] if stopping else self._admit()
        if not self.pool:
            self.is_over = True
            return records
        moving = self.rows.by_system["moving"].tolist()
        flights = self._present()
        steps = [f.step + moved for f, moved in zip(flights, moving, strict=True)]
        saves = [stopping or f.records_at(s) for f, s in zip(flights, steps, strict=True)]
        stress = self.gives_stress and (any(saves) or self.integrator.needs_stress)
        names = ["energy", "forces"] + (["stress"] if stress else [])
        found = self.evaluator.evaluate(self.pool.batch, names)
        self.pool.edges = found.edges
        self.integrator.second_part(self.rows, self.pool.batch, found.forces, found.stress)
        stay, left = self._land(found, steps, saves, stopping=stopping)
        if bar is not None:
            bar.advance(sum(moving) + self.steps_before, together=len(self.pool))
            self.steps_before = 0
        if left:
            order = self.pool.keep(stay)
            forces = Rows(self.rows.sizes, {"forces": found.forces}).taken(order)
            self.rows, found.forces = self.rows.taken(order), forces.by_row["forces"]
        if stay:
            randoms = [None if f.random is None else (f.random, f.step) for f in self._present()]
            batch = self.pool.batch
            moved = self.integrator.first_part(self.rows, batch, found.forces, randoms)
            self.pool.move(*moved)
        self.is_over = stopping
        return records + left

    def _starts(
        self, runs: Sequence[tuple[int, Dynamics]], restart: bool
    ) -> Iterator[Atoms | Exception]:
        """Yield the structures that runs start or go on from."""
        for number, run in runs:
            try:
                flight = Flight(number, run, restart=restart)
            except AdatomError as error:
                sid = str(number)
                self.finished.append(DynamicsRecord(number, sid, None, 0, [], reason(error)))
                continue
            self.steps_before += min(flight.step, run.steps)
            if flight.continues and flight.is_over:
                self.finished.append(_record(flight))
                continue
            self.flights.append(flight)
            yield flight.atoms

    def _present(self) -> list[Flight]:
        return [self.flights[entry.number] for entry in self.pool.entries]

    def _admit(self) -> list[DynamicsRecord]:
        refused: list[DynamicsRecord] = []
        entries: list[Entry] = []
        for found in self.pool.newcomers():
            flight = self.flights[found.number]
            if isinstance(found, Refused):
                number, sid = flight.number, found.sid
                refused.append(DynamicsRecord(number, sid, None, 0, [], found.error))
            else:
                entries.append(found)
        if entries:
            order = self.pool.add(entries)
            for entry in entries:
                flight = self.flights[entry.number]
                flight.open()
                rows = self.integrator.rows(
                    flight.atoms,
                    entry.system.fixed,
                    flight.run.ensemble,
                    flight.run.timestep,
                    flight.state,
                )
                self.rows = self.rows.joined(rows) if len(self.rows.sizes) else rows
            self.rows = self.rows.taken(order)
        return refused

    def _land(
        self, found: Evaluated, steps: Sequence[int], saves: Sequence[bool], *, stopping: bool
    ) -> tuple[list[int], list[DynamicsRecord]]:
        """Check and record every system; return who flies on and the records of the others."""
        host = torch.stack([found.energy, temperatures(self.rows)]).T.tolist()
        stay, left = [], []
        for i, flight in enumerate(self._present()):
            energy, temperature = host[i]
            error = self._trouble(found.errors.get(i), energy, temperature)
            if error is not None:
                when = f"at step {steps[i]} ({steps[i] * flight.run.timestep:g} fs)"
                saved = f"the last saved state is step {flight.saved}"
                left.append(_record(flight, f"{error} {when}; {saved}"))
                continue
            flight.step = steps[i]
            if saves[i] or not flight.rows:
                state = self.integrator.state(self.rows, i)
                flight.record(*self._state(i, found, energy), state)
            if flight.is_over or stopping:
                left.append(_record(flight))
            else:
                stay.append(i)
        return stay, left

    def _trouble(self, error: Exception | None, energy: float, temperature: float) -> str | None:
        if error is not None:
            return f"The dynamics failed ({reason(error)})"
        if not abs(energy) < float("inf") or not temperature < float("inf"):
            return "The energy is not finite"
        if temperature > self.max_temperature:
            most = f"more than {self.max_temperature:g} K"
            return f"The temperature is {temperature:.0f} K ({most})"
        return None

    def _state(
        self, i: int, found: Evaluated, energy: float
    ) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Return positions, cell, momenta and results of one system."""
        batch = self.pool.batch
        atoms = torch.nonzero(batch.batch == i).flatten()
        results: dict[str, Any] = {"energy": energy, "forces": found.forces[atoms].cpu().numpy()}
        if found.stress is not None and not bool(found.stress[i].isnan().any()):
            results["stress"] = matrix_to_voigt(found.stress[i].cpu().numpy())
        momenta = self.rows.by_row["p"][atoms].cpu().numpy()
        pos, cell = batch.pos[atoms].cpu().numpy(), batch.cell[i].cpu().numpy()
        return pos, cell, momenta, results


def _record(flight: Flight, error: str | None = None) -> DynamicsRecord:
    sid = str(flight.atoms.info.get("sid") or flight.atoms.get_chemical_formula())
    return DynamicsRecord(flight.number, sid, flight.atoms, flight.saved, flight.rows, error)
