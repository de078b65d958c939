"""Keeps a potential in LAMMPS: adds its fix to each new simulation box, and guards it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase.calculators.calculator import Calculator

from adatom.core.errors import ConfigError
from adatom.deploy.lammps.elements import Elements, elements_by_type, numbers_by_type
from adatom.deploy.lammps.errors import LammpsError
from adatom.deploy.lammps.external_force import (
    FIX,
    STOP_FIX,
    UNIT_STYLES,
    ExternalForce,
    prepare_stop,
)
from adatom.deploy.lammps.interrupts import Interrupts

#: Interactions of LAMMPS's own whose forces would be added.
_KINDS = ("pair", "bond", "angle", "dihedral", "improper", "kspace")
_OWN = (FIX, STOP_FIX)
_NO_FORCES = ("none", "zero", "", None)
_PER_ATOM_VIRIAL = ("stress/atom", "centroid/stress/atom")


class PotentialFix:
    """Adds ``fix adatom all external`` right after a simulation box was made.

    It comes before all fixes of the script: one that holds atoms (``setforce``) or adds to forces
    acts on those of the potential.

    Args:
        lmp: The ``lammps.lammps`` object.
        calculator: Of energies and forces.
        elements: Of the atom types; see :func:`~adatom.deploy.lammps.elements.elements_by_type`.
        threads: CPU threads of PyTorch during an evaluation; LAMMPS sets its own number.
        interrupts: Remembers Ctrl-C.
        overlay: Whether LAMMPS's own interactions may be added to the potential.

    Attributes:
        force: What computes for the present box; None before there is one.

    Raises:
        ConfigError: If the elements are not named completely.
        UnknownNameError: If an element does not exist.
    """

    def __init__(
        self,
        lmp: Any,
        calculator: Calculator,
        elements: Elements,
        *,
        threads: int,
        interrupts: Interrupts,
        overlay: bool = False,
    ) -> None:
        self._lmp = lmp
        self._calculator = calculator
        self._symbols = elements_by_type(elements)
        self._threads = threads
        self._interrupts = interrupts
        self._overlay = overlay
        self._evaluations = 0
        self._is_aside = False
        self.force: ExternalForce | None = None

    @property
    def evaluations(self) -> int:
        """How many times the calculator was asked."""
        return self._evaluations + (0 if self.force is None else self.force.evaluations)

    def before(self, words: Sequence[str]) -> None:
        """Refuse a command that would make results wrong; called with its words.

        Raises:
            ConfigError: With the reason.
        """
        if list(words[:2]) == ["run_style", "respa"]:
            raise ConfigError(
                "The script has run_style respa, which does not ask fix external for forces",
                expected="run_style verlet",
            )
        if words[0] == "compute" and len(words) > 3:
            self._prepare_compute(words[3])
        if words[0] == "replicate" and self.force is not None:
            self._step_aside()

    def after(self) -> None:
        """Add the fix if there is a new box, and see that it is still there.

        Raises:
            ConfigError: If units, elements or further interactions do not fit.
            LammpsError: If the script removed the fix.
            KeyboardInterrupt: If there was Ctrl-C.
        """
        self._interrupts.check()
        if not self._lmp.extract_setting("box_exist"):
            self._forget()
            return
        if self.force is None:
            self.force = self._new_force()
            self._attach(self.force)
        elif self._is_aside:
            self._attach(self.force)
        elif not all(self._lmp.has_id("fix", name) for name in _OWN):
            raise LammpsError(
                f"The script removed the fix {FIX!r}, which holds the potential",
                fix="Remove only fixes of your own.",
            )
        self._refuse_other_interactions()

    def _forget(self) -> None:
        self._evaluations = self.evaluations
        self._is_aside = False
        self.force = None

    def _step_aside(self) -> None:
        """Remove the fix for a command that LAMMPS refuses where fixes hold values of atoms.

        Raises:
            ConfigError: If there are other fixes, which would come before it afterwards.
        """
        others = set(self._lmp.available_ids("fix")) - set(_OWN)
        if others:
            raise ConfigError(
                f"The script has replicate after the fix(es) {', '.join(sorted(others))}",
                fix="Replicate before the first fix, or remove the fixes before and add them "
                "again afterwards.",
            )
        for name in _OWN:
            self._lmp.command(f"unfix {name}")
        self._is_aside = True

    def _new_force(self) -> ExternalForce:
        unit_style = self._lmp.extract_global("units")
        if unit_style not in UNIT_STYLES:
            raise ConfigError(
                f"The script has units {unit_style}",
                expected=f"units {' or '.join(UNIT_STYLES)}",
            )
        if self._lmp.extract_setting("dimension") != 3:
            raise ConfigError(
                "The script has dimension 2, where atoms would see their images above and below",
                expected="dimension 3",
                fix="Take a thick box with boundary p p f, and fix setforce NULL NULL 0.",
            )
        return ExternalForce(
            self._lmp,
            self._calculator,
            numbers=numbers_by_type(self._symbols, self._lmp.extract_setting("ntypes")),
            symbols=self._symbols,
            unit_style=unit_style,
            threads=self._threads,
            interrupts=self._interrupts,
        )

    def _attach(self, force: ExternalForce) -> None:
        if self._lmp.extract_global("pair_style") in ("none", None):
            # Without any, LAMMPS warns that forces may be wrong because atoms have no neighbors.
            self._lmp.command("pair_style zero 0.5")
            self._lmp.command("pair_coeff * *")
        self._lmp.command(f"fix {FIX} all external pf/callback 1 1")
        self._lmp.command(f"fix_modify {FIX} energy yes virial yes")
        self._lmp.set_fix_external_callback(FIX, force, None)
        prepare_stop(self._lmp)
        self._is_aside = False

    def _refuse_other_interactions(self) -> None:
        for kind in () if self._overlay else _KINDS:
            style = self._lmp.extract_global(f"{kind}_style")
            if style not in _NO_FORCES:
                raise ConfigError(
                    f"The script has {kind}_style {style}, whose forces would be added to those "
                    "of the potential",
                    expected=f"no {kind}_style, or 'none' or 'zero'",
                    fix="Remove it, or ask for the sum with --overlay.",
                )

    def _prepare_compute(self, style: str) -> None:
        """Prepare values of atoms, which a compute would otherwise read as zeros."""
        gives = self._calculator.implemented_properties
        for styles, needed in ((("pe/atom",), "energies"), (_PER_ATOM_VIRIAL, "stresses")):
            if style in styles and needed not in gives:
                raise ConfigError(
                    f"The script has compute {style}, and this potential gives no {needed}",
                    fix="Leave the compute out.",
                )
        if style in _PER_ATOM_VIRIAL and self.force is not None:
            self.force.per_atom_virial = True
