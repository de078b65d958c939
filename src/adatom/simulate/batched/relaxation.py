"""Many structures relax together; each leaves when it has converged, and the next one enters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from adatom.calculators.unit_of import predict_unit_of
from adatom.core.console import ProgressBar
from adatom.core.errors import ConfigError, DataError, unknown_name
from adatom.core.units import matrix_to_voigt
from adatom.data.atomic_data import AtomicData
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.simulate.batched.cells import CellRelaxation
from adatom.simulate.batched.coordinates import Coordinates
from adatom.simulate.batched.evaluation import Evaluated, Evaluator, reason
from adatom.simulate.batched.intake import Entry, Intake, Refused, Structure
from adatom.simulate.batched.minimizers import MINIMIZERS, Minimizer
from adatom.simulate.batched.pool import Pool
from adatom.simulate.batched.relaxed import Relaxed, bare, placed
from adatom.simulate.batched.rows import longest, owners
from adatom.simulate.stopping import StopRequest
from adatom.tasks.potential import Potential

Model = str | Path | Potential | MLIPPredictUnit


@dataclass(frozen=True, kw_only=True)
class RelaxationSettings:
    """How structures relax.

    Attributes:
        optimizer: ``"FIRE"`` or ``"LBFGS"``.
        fmax: Converged when no force is larger, in eV/angstrom; one number, or one per structure.
        steps: At most this many; one number, or one per structure.
        cell: How the cells relax too; None keeps them.
        limit: Structures that are computed together at most.

    Raises:
        ConfigError: If a number cannot be used.
        UnknownNameError: If there is no such optimizer.
    """

    optimizer: str = "LBFGS"
    fmax: float | Sequence[float] = 0.02
    steps: int | Sequence[int] = 500
    cell: CellRelaxation | None = None
    limit: int = 4096

    def __post_init__(self) -> None:
        """Refuse numbers that have no meaning."""
        if self.optimizer not in MINIMIZERS:
            raise unknown_name("optimizer of many structures", self.optimizer, MINIMIZERS)
        for fmax in _each(self.fmax):
            if not 0 < fmax < float("inf"):
                raise ConfigError(f"fmax is {fmax} eV/angstrom", expected="a positive number")
        for steps in _each(self.steps):
            if steps < 0:
                raise ConfigError(f"steps is {steps}", expected="0 or more")
        if self.limit < 1:
            raise ConfigError(f"limit is {self.limit}", expected="1 or more")


def iterate_relaxations(
    structures: Iterable[Structure],
    model: Model,
    *,
    task_name: str | None = None,
    settings: RelaxationSettings | None = None,
    skip: Callable[[int, Structure], bool] | None = None,
    stop: StopRequest | None = None,
    bar: ProgressBar | None = None,
) -> Iterator[Relaxed]:
    """Relax structures together and yield each as soon as it is done, in any order.

    What a structure does depends on itself alone, to rounding: its neighbors in the batch, and
    what happens to them, change nothing.

    Args:
        structures: Any number; asked for as there is room. They are never changed.
        model: Name or path of a checkpoint, a potential, or a predict unit.
        task_name: The level of theory, needed only if the potential has several.
        settings: How to relax.
        skip: Tells by number and structure which are to be left out.
        stop: Ends the relaxations before the next step when it has a signal; those that are on
            their way are not yielded.
        bar: Moved forward by each structure.

    Yields:
        One record per structure; of one that cannot be computed, why.

    Raises:
        ConfigError: If the task has to be chosen, or gives no forces, or no stress for the cell.
        UnknownNameError: If there is no such task.
    """
    settings = RelaxationSettings() if settings is None else settings
    unit = predict_unit_of(model)
    check = _needs_volume if settings.cell is not None else None
    intake = Intake(structures, unit, task_name, check, skip)
    if settings.cell is not None:
        require_stress(unit, intake.task_name)
    run = _Run(unit, intake, settings)
    while stop is None or stop.signal is None:
        for done in run.advance():
            if bar is not None:
                bar.advance(1, together=len(run.pool))
            yield done
        if run.is_over:
            return


def relax_many(
    structures: Iterable[Structure],
    model: Model,
    *,
    task_name: str | None = None,
    settings: RelaxationSettings | None = None,
) -> list[Relaxed]:
    """Relax structures together; see :func:`iterate_relaxations` for arguments and errors.

    Returns:
        One record per structure, in input order.
    """
    found = iterate_relaxations(structures, model, task_name=task_name, settings=settings)
    return sorted(found, key=lambda record: record.number)


def require_stress(unit: MLIPPredictUnit, task_name: str) -> None:
    """Refuse to relax cells with a potential that gives no stress.

    Raises:
        ConfigError: If it does not.
    """
    if "stress" not in unit.potential.properties(task_name):
        raise ConfigError(
            f"Cells cannot relax: the potential gives no stress for the task {task_name!r}",
            fix="Relax the positions only.",
        )


class _Run:
    """Relaxations from the first structure to the last."""

    def __init__(self, unit: MLIPPredictUnit, intake: Intake, settings: RelaxationSettings) -> None:
        names = ["energy", "forces"] + (["stress"] if settings.cell is not None else [])
        self.evaluator = Evaluator(unit)
        self.names = names
        self.settings = settings
        self.pool = Pool(intake, unit.runner, names, settings.limit)
        self.minimizer: Minimizer = MINIMIZERS[settings.optimizer]()
        self.coordinates = Coordinates(settings.cell, unit.device)
        self.paths: dict[int, list[float]] = {}
        self.is_over = False

    def advance(self) -> Iterator[Relaxed]:
        """Let structures in, compute all, let those go that are done, and move the others."""
        yield from self._admit()
        if not self.pool:
            self.is_over = True
            return
        found = self.evaluator.evaluate(self.pool.batch, self.names)
        self.pool.edges = found.edges
        forces = self.coordinates.forces(self.pool.batch, found)
        stay, records = self._leave(found, forces)
        yield from records
        order = self.pool.keep(stay) if records else None
        if order is not None:
            forces = self.coordinates.keep(order, forces)
        if stay:
            self.coordinates.move(self.pool, self.minimizer, forces)

    def _admit(self) -> Iterator[Relaxed]:
        entries: list[Entry] = []
        for found in self.pool.newcomers():
            if isinstance(found, Refused):
                atoms = None if found.given is None else bare(found.given)
                nan = float("nan")
                yield Relaxed(found.number, found.sid, atoms, False, 0, [], nan, found.error)
            else:
                entries.append(found)
                self.paths[found.number] = []
        if entries:
            order = self.pool.add(entries)
            self.coordinates.enter(entries, order, self.minimizer)

    def _leave(self, found: Evaluated, forces: torch.Tensor) -> tuple[list[int], list[Relaxed]]:
        """Return who stays and the records of those who do not."""
        batch = self.pool.batch
        count = batch.num_systems
        sizes = self.coordinates.state.sizes
        largest = longest(forces, owners(sizes), count)
        held = torch.where(batch.fixed[:, None], 0.0, found.forces)
        on_atoms = longest(held, batch.batch, count)
        host = torch.stack([found.energy, largest, on_atoms]).tolist()
        stay, records = [], []
        for i, (energy, force, on_atom) in enumerate(zip(*host, strict=True)):
            path = self.paths[self.pool.entries[i].number]
            if i in found.errors:
                records.append(self._failed(i, found.errors[i]))
                continue
            path.append(energy)
            number = self.pool.entries[i].number
            converged = force < _of(self.settings.fmax, number)
            if converged or len(path) > _of(self.settings.steps, number):
                records.append(self._done(i, found, converged, on_atom))
            else:
                stay.append(i)
        return stay, records

    def _done(self, i: int, found: Evaluated, converged: bool, on_atom: float) -> Relaxed:
        entry, batch = self.pool.entries[i], self.pool.batch
        path = self.paths.pop(entry.number)
        atoms = torch.nonzero(batch.batch == i).flatten()
        results = {"energy": path[-1], "forces": found.forces[atoms].cpu().numpy()}
        if found.stress is not None:
            results["stress"] = matrix_to_voigt(found.stress[i].cpu().numpy())
        pos, cell = batch.pos[atoms].cpu().numpy(), batch.cell[i].cpu().numpy()
        last = placed(entry.given, pos, cell, results)
        steps = len(path) - 1
        return Relaxed(entry.number, _sid(entry), last, converged, steps, path, on_atom)

    def _failed(self, i: int, error: Exception) -> Relaxed:
        entry = self.pool.entries[i]
        path = self.paths.pop(entry.number)
        pos, cell = self.coordinates.before(i, entry)
        last = placed(entry.given, pos.cpu().numpy(), cell.cpu().numpy(), {})
        text = f"The relaxation failed at step {len(path)}: {reason(error)}"
        steps = max(0, len(path) - 1)
        return Relaxed(entry.number, _sid(entry), last, False, steps, path, float("nan"), text)


def _sid(entry: Entry) -> str:
    return entry.system.sid[0]


def _needs_volume(system: AtomicData) -> None:
    if float(torch.linalg.det(system.cell[0]).abs()) == 0:
        raise DataError(f"The cell of {system.sid[0]!r} cannot relax: it has no volume")


def _each(value: float | Sequence[float]) -> Sequence[float]:
    return value if isinstance(value, Sequence) else [value]


def _of(value: float | Sequence[float], number: int) -> float:
    return value[number] if isinstance(value, Sequence) else value
