"""Energy, forces and virial of LAMMPS's atoms, computed by an ASE calculator."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.calculators.calculator import Calculator

from adatom.core.precision import torch_threads
from adatom.core.units import ENERGY_UNITS
from adatom.deploy.lammps.elements import contradictions
from adatom.deploy.lammps.interrupts import Interrupts

#: Names of the fix that adds forces, and of the one that stops LAMMPS after a failure.
FIX, STOP_FIX = "adatom", "adatom_stop"
#: Energy units of LAMMPS's unit styles whose lengths are in angstrom.
UNIT_STYLES = {"metal": "eV", "real": "kcal/mol"}

Array = npt.NDArray[np.float64]

#: ASE's Voigt order (xx, yy, zz, yz, xz, xy) in the order xx, yy, zz, xy, xz, yz of LAMMPS.
_VOIGT = [0, 1, 2, 5, 4, 3]


class ElementWarning(UserWarning):
    """A mass in LAMMPS is not that of the element that was named."""


@dataclass(frozen=True)
class Failure:
    """Why and where a step could not be computed.

    Attributes:
        step: LAMMPS's step.
        error: What was raised.
        atoms: The structure of that step, with LAMMPS's ``id`` and ``type``; None if it could not
            be read.
    """

    step: int
    error: BaseException
    atoms: Atoms | None

    def write(self, folder: Path) -> Path | None:
        """Write the structure into ``folder``; None if there is none or it cannot be written."""
        if self.atoms is None or not len(self.atoms):
            return None
        path = folder / f"stopped-at-step-{self.step}.extxyz"
        try:
            ase.io.write(path, self.atoms, format="extxyz")
        except OSError:
            return None
        return path


class ExternalForce:
    """What ``fix external`` calls at every step.

    An exception cannot pass through LAMMPS's code. It is kept in ``failure``, forces are zero, and
    ``stop`` makes LAMMPS leave the step before velocities are changed with these.

    Args:
        lmp: The ``lammps.lammps`` object, with a simulation box.
        calculator: Gives energy, forces and, where it can, stress in ASE's units.
        numbers: ``[types + 1]`` atomic numbers by atom type.
        symbols: Elements of the types, for messages.
        unit_style: A key of :data:`UNIT_STYLES`.
        threads: CPU threads of PyTorch during an evaluation.
        interrupts: Remembers Ctrl-C.

    Attributes:
        failure: What stopped LAMMPS, or None.
        evaluations: How many times the calculator was asked.
        per_atom_virial: Whether stresses of atoms are given as well.
    """

    def __init__(
        self,
        lmp: Any,
        calculator: Calculator,
        *,
        numbers: npt.NDArray[np.int64],
        symbols: Sequence[str],
        unit_style: str,
        threads: int,
        interrupts: Interrupts,
    ) -> None:
        self._lmp = lmp
        self._calculator = calculator
        self._numbers = numbers
        self._symbols = symbols
        self._unit = 1.0 / ENERGY_UNITS[UNIT_STYLES[unit_style]]
        self._threads = threads
        self._interrupts = interrupts
        self._masses_are_checked = False
        self.failure: Failure | None = None
        self.evaluations = 0
        self.per_atom_virial = False

    def __call__(
        self,
        _caller: object,
        step: int,
        count: int,
        tags: npt.NDArray[np.int32],
        positions: Array,
        forces: Array,
    ) -> None:
        """Compute the forces on ``count`` atoms; called by LAMMPS.

        Args:
            step: LAMMPS's step.
            count: Atoms of this process.
            tags: ``[count]`` LAMMPS's identifiers of atoms, in its present order.
            positions: ``[count, 3]`` in angstrom.
            forces: ``[count, 3]`` to be filled, in LAMMPS's units.
        """
        atoms = None
        try:
            if count == 0:
                self._set_global(0.0, np.zeros(6))
                return
            order = np.argsort(tags[:count], kind="stable")
            atoms = self._atoms(positions, order)
            atoms.arrays["id"] = np.array(tags[order])
            self._check_masses()
            with torch_threads(self._threads):
                self._compute(atoms, order, forces)
            self._interrupts.check()
        # Also Ctrl-C: whatever is raised here would only be printed, and the run would go on.
        except BaseException as error:  # noqa: BLE001
            forces[:] = 0.0
            self.failure = Failure(step, error, atoms)
            stop(self._lmp, f"The potential failed at step {step}: {error!r}")

    def _atoms(self, positions: Array, order: npt.NDArray[np.intp]) -> Atoms:
        """Copy the structure, sorted by identifier: LAMMPS may change its order at any step."""
        low, high, xy, yz, xz, periodic, _ = self._lmp.extract_box()
        lx, ly, lz = np.subtract(high, low)
        kinds = self._lmp.numpy.extract_atom("type")[order]
        atoms = Atoms(
            self._numbers[kinds],
            positions[order],
            cell=[[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]],
            pbc=periodic,
        )
        atoms.arrays["type"] = np.array(kinds)
        return atoms

    def _compute(self, atoms: Atoms, order: npt.NDArray[np.intp], forces: Array) -> None:
        gives = self._calculator.implemented_properties
        self.evaluations += 1
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        if self.per_atom_virial:
            # First, so that one call computes everything; the others come from the cache.
            self._calculator.get_property("stresses", bare)
        energy = float(self._calculator.get_property("energy", bare))
        forces[order] = self._calculator.get_property("forces", bare) * self._unit
        # What a potential does not give must not look like a pressure of zero.
        virial = np.full(6, np.nan)
        if "stress" in gives:
            virial = self._virial(self._calculator.get_property("stress", bare), bare)
        self._set_global(energy, virial)
        # LAMMPS keeps per-atom values in its own order.
        place = np.argsort(order)
        if "energies" in gives:
            energies = self._calculator.get_property("energies", bare) * self._unit
            self._lmp.fix_external_set_energy_peratom(FIX, energies[place])
        if self.per_atom_virial:
            stresses = self._calculator.get_property("stresses", bare)
            virials = self._virial(stresses, bare) * self._unit
            self._lmp.fix_external_set_virial_peratom(FIX, virials[place])

    def _virial(self, stress: Array, atoms: Atoms) -> Array:
        """Return LAMMPS's virial (the sum of r f) in eV of an ASE stress ``[..., 6]``."""
        virial: Array = -np.asarray(stress)[..., _VOIGT] * float(atoms.cell.volume)
        return virial

    def _set_global(self, energy: float, virial: Array) -> None:
        self._lmp.fix_external_set_energy_global(FIX, energy * self._unit)
        self._lmp.fix_external_set_virial_global(FIX, virial * self._unit)

    def _check_masses(self) -> None:
        if self._masses_are_checked:
            return
        self._masses_are_checked = True
        masses = self._lmp.numpy.extract_atom("mass")
        if masses is None:
            return
        for each in contradictions(self._symbols, masses[1 : len(self._symbols) + 1]):
            warnings.warn(
                f"{each}; the potential computes with the element that is named.",
                ElementWarning,
                stacklevel=2,
            )


def prepare_stop(lmp: Any) -> None:
    """Define what :func:`stop` needs, after the fix whose failures shall stop LAMMPS.

    An indenter of zero strength asks for its place at every step of dynamics and minimization,
    and finds that it is 0/1 as long as all is well.
    """
    lmp.command(f"variable {FIX}_is_well internal 1")
    lmp.command(f"variable {FIX}_stopped_this_run equal 0/v_{FIX}_is_well")
    lmp.command(f"fix {STOP_FIX} all indent 0.0 plane x v_{FIX}_stopped_this_run lo")


def stop(lmp: Any, message: str) -> None:
    """Make LAMMPS stop within this step, and say why in its log.

    LAMMPS has no call for this: ``fix halt`` and timeouts act after the step was completed.
    """
    lmp.error(0, " ".join(message.split()))
    lmp.set_internal_variable(f"{FIX}_is_well", 0.0)
