"""What a structure has to say before one task's numbers mean anything."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from adatom.core.errors import DataError, OutOfDomainError
from adatom.tasks.domain import Domain

#: Tasks whose training data were molecules and clusters without periodicity.
MOLECULAR_TASKS = frozenset({"omol"})


class TaskRules:
    """Completes and checks charge, spin and periodicity for one task.

    A task trained with spin multiplicities (such as UMA's ``omol``) needs both numbers. Where they
    are not given, the charge is 0 and the multiplicity 1, with a warning the first time; an odd
    number of electrons cannot have multiplicity 1, and is refused. Elements, charges and
    multiplicities that were never seen are refused by the potential itself.

    Args:
        task_name: Name of the task.
        domain: What its training data contained.
    """

    def __init__(self, task_name: str, domain: Domain) -> None:
        self.task_name = task_name
        self.needs_spin = bool(domain.spins) and 0 not in domain.spins
        self.without_spin = bool(domain.spins) and set(domain.spins) == {0}
        self._warned: set[str] = set()

    def charge_and_spin(
        self,
        numbers: npt.NDArray[np.int64],
        *,
        periodic: bool,
        charge: int | None,
        spin: int | None,
        where: str,
    ) -> tuple[int, int]:
        """Return the charge and multiplicity to compute with (0 where the task has none).

        Args:
            numbers: ``[n]`` atomic numbers.
            periodic: Whether any direction is periodic.
            charge: Total charge, or None where it is not given.
            spin: Multiplicity 2S+1, or None (or 0) where it is not given.
            where: Names the structure in messages, such as ``"Structure 'H2O'"``.

        Raises:
            DataError: If the multiplicity is missing and cannot be 1.
            OutOfDomainError: If charge and multiplicity contradict the number of electrons.
        """
        if periodic and self.task_name in MOLECULAR_TASKS:
            self._warn(
                "periodic",
                f"{where} is periodic, but the task {self.task_name!r} was trained on molecules "
                "without periodicity. Its numbers are an extrapolation.",
            )
        spin = spin or None
        if self.without_spin and spin == 1 and not charge:
            self._warn(
                "singlet",
                f"{where} has spin 1, but the task {self.task_name!r} was trained without "
                "spin. It is left out.",
            )
            spin = None
        if not self.needs_spin:
            return charge or 0, spin or 0
        electrons = int(numbers.sum()) - (charge or 0)
        if charge is None or spin is None:
            self._complain_of_missing(charge, spin, electrons, where)
        spin = 1 if spin is None else spin
        if (electrons - spin) % 2 == 0 or spin - 1 > electrons:
            raise OutOfDomainError(
                f"{where} has {electrons} electrons (charge {charge or 0}), which cannot have "
                f"spin multiplicity {spin}",
                expected="an odd multiplicity for an even number of electrons, and vice versa",
                fix="Correct charge or spin; spin is 2S+1, so a radical has 2.",
            )
        return charge or 0, spin

    def _complain_of_missing(
        self, charge: int | None, spin: int | None, electrons: int, where: str
    ) -> None:
        missing = [name for name, value in (("charge", charge), ("spin", spin)) if value is None]
        given = "give them in atoms.info['charge'] and atoms.info['spin'] (2S+1), or as arguments"
        if spin is None and electrons % 2:
            raise DataError(
                f"{where} has no spin multiplicity, and an odd number of electrons ({electrons})",
                expected=f"charge and spin, which the task {self.task_name!r} needs",
                fix=f"Please {given}; a radical has spin 2.",
            )
        taken = {"charge": "charge 0", "spin": "spin multiplicity 1"}
        self._warn(
            f"missing {missing}",
            f"{where} has no {' and no '.join(missing)}, which the task {self.task_name!r} needs: "
            f"{' and '.join(taken[name] for name in missing)} assumed. To be sure, {given}.",
        )

    def _warn(self, key: str, message: str) -> None:
        """Warn once per instance."""
        if key not in self._warned:
            self._warned.add(key)
            warnings.warn(message, UserWarning, stacklevel=2)
