"""Structures on their way into a batch: converted and checked one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from ase import Atoms
from ase.constraints import FixAtoms

from adatom.calculators.task_rules import TaskRules
from adatom.calculators.unit_of import require_energies
from adatom.core.errors import ConfigError, DataError
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData
from adatom.data.validation import check_overlap
from adatom.inference.composition import Key
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.simulate.batched.evaluation import reason
from adatom.simulate.batched.rows import STRUCTURE_ERRORS

Structure = AtomicData | Atoms


@dataclass(slots=True)
class Entry:
    """A structure that may enter a batch.

    Attributes:
        number: Its place in the input.
        system: Converted, on the device, without edges.
        key: What it is made of.
        edges: Number of its edges at the start.
        given: The structure as it came.
    """

    number: int
    system: AtomicData
    key: Key
    edges: int
    given: Structure


@dataclass(slots=True)
class Refused:
    """A structure that cannot be computed.

    Attributes:
        number: Its place in the input.
        sid: Its name, as far as it is known.
        given: The structure, or None if it could not even be read.
        error: Why.
    """

    number: int
    sid: str
    given: Structure | None
    error: str


class Intake:
    """Reads structures as they are needed.

    Args:
        structures: A sequence, whose elements are asked for one by one so that one which cannot
            be read is reported alone, or any iterable. An exception stands for a structure that
            could not be made.
        unit: Computes them.
        task_name: The level of theory, needed only if the potential has several.
        check: Further checks of a structure, raising a DataError.
        skip: Tells by number and structure which are to be left out.

    Raises:
        ConfigError: If the task has to be chosen, or has no forces.
        UnknownNameError: If there is no such task.
    """

    def __init__(
        self,
        structures: Iterable[Structure | Exception],
        unit: MLIPPredictUnit,
        task_name: str | None = None,
        check: Callable[[AtomicData], None] | None = None,
        skip: Callable[[int, Structure], bool] | None = None,
    ) -> None:
        self.task_name = unit.resolve_task(task_name)
        require_energies(unit, self.task_name)
        self._unit = unit
        self._rules = TaskRules(self.task_name, unit.potential.domains[self.task_name])
        self._check = check
        self._skip = skip
        self._items = _numbered(structures)
        self._next: Entry | Refused | None = None

    def peek(self) -> Entry | Refused | None:
        """Return the next structure and leave it there; None at the end."""
        if self._next is None:
            for number, given in self._items:
                if isinstance(given, Exception) or not (self._skip and self._skip(number, given)):
                    self._next = self._entry(number, given)
                    break
        return self._next

    def take(self) -> Entry | Refused | None:
        """Return the next structure; None at the end."""
        found, self._next = self.peek(), None
        return found

    def _entry(self, number: int, given: Structure | Exception) -> Entry | Refused:
        if isinstance(given, Exception):
            return Refused(number, f"structure {number}", None, reason(given))
        sid = _name(given, number)
        try:
            system = self._converted(given, sid)
            check_overlap(system)
            if self._check is not None:
                self._check(system)
            runner = self._unit.runner
            key = runner.key(system)
            built = runner.with_edges(system)
        except STRUCTURE_ERRORS as error:
            known = given if isinstance(given, (Atoms, AtomicData)) else None
            return Refused(number, sid, known, reason(error))
        edges = 0 if built.edges is None else built.edges.num_edges
        return Entry(number, replace(built, edges=None), key, edges, given)

    def _converted(self, given: Structure, sid: str) -> AtomicData:
        if isinstance(given, Atoms):
            check_constraints(given, sid)
            system = from_ase(given, dataset=self.task_name, sid=sid, label_keys={})
        elif isinstance(given, AtomicData) and given.num_systems == 1:
            system = replace(given, dataset=[self.task_name], edges=None, labels={})
        else:
            raise DataError(
                f"Structure {sid!r} is a {type(given).__name__}",
                expected="an ASE Atoms object, or an AtomicData of one system",
            )
        # Positions of the caller are never changed, and are float64 whatever they were.
        system = replace(system, pos=system.pos.detach().double(), cell=system.cell.double())
        charge, spin = self._rules.charge_and_spin(
            system.atomic_numbers.cpu().numpy(),
            periodic=bool(system.pbc.any()),
            charge=int(system.charge[0]),
            spin=int(system.spin[0]),
            where=f"Structure {sid!r}",
        )
        state = torch.tensor([[charge], [spin]], device=system.pos.device)
        return replace(system, charge=state[0], spin=state[1])


def check_constraints(atoms: Atoms, sid: str) -> None:
    """Refuse constraints that batches do not respect.

    Raises:
        ConfigError: Naming the constraint.
    """
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise ConfigError(
                f"Structure {sid!r} has the constraint {type(constraint).__name__}, which "
                "batches do not respect",
                expected="FixAtoms, or no constraint",
                fix="Relax it alone, or remove the constraint.",
            )


def _numbered(structures: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Number structures; of a sequence, one that cannot be read becomes its error."""
    if not isinstance(structures, Sequence):
        yield from enumerate(structures)
        return
    for i in range(len(structures)):
        try:
            found = structures[i]
        except STRUCTURE_ERRORS as error:
            found = error
        yield i, found


def _name(given: Any, number: int) -> str:
    if isinstance(given, AtomicData):
        return given.sid[0] if given.sid else str(number)
    if isinstance(given, Atoms):
        return str(given.info.get("sid") or f"{given.get_chemical_formula()}:{number}")
    return f"structure {number}"
