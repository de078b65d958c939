"""What is verified: where its calculators come from, and what it claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.calculators.calculator import Calculator

from adatom.core.errors import ConfigError, unknown_name

Floats = npt.NDArray[np.float64]
#: Energy in eV and forces ``[N, 3]`` in eV/angstrom of atoms, computed in other units.
InOtherUnits = Callable[[Atoms], tuple[float, Floats]]


@dataclass(frozen=True)
class Limits:
    """How far results that should be equal may differ.

    Attributes:
        same: Of energies and forces, relative to their size.
        energy_jump: eV.
        force_jump: eV/angstrom.
        worst_grade: Of forces against differences of the energy.
    """

    same: float
    energy_jump: float
    force_jump: float
    worst_grade: str


LIMITS = {
    "double": Limits(same=1e-9, energy_jump=1e-7, force_jump=1e-6, worst_grade="B"),
    "single": Limits(same=1e-3, energy_jump=1e-3, force_jump=1e-2, worst_grade="D"),
}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A potential behind ASE calculators.

    Attributes:
        name: For the report.
        species: Chemical symbols of the elements that it says it supports.
        make: Makes a new calculator, with nothing shared that a user would not share.
        for_threads: Makes calculators for so many threads, on one model where it allows that; None
            calls ``make`` for each.
        units: What a system of units is called, and the potential computed in it. Empty where the
            potential knows one system only.
        cutoff: In angstrom, where energies of pairs end; None if it is not known.
        precision: In what the potential computes: which limits hold.
        close: Frees a calculator of ``make``.

    Raises:
        ConfigError: If there are no species.
        UnknownNameError: If the precision is unknown.
    """

    name: str
    species: Sequence[str]
    make: Callable[[], Calculator]
    for_threads: Callable[[int], Sequence[Calculator]] | None = None
    units: Mapping[str, InOtherUnits] = field(default_factory=dict)
    cutoff: float | None = None
    precision: Literal["double", "single"] = "double"
    close: Callable[[Calculator], None] = lambda _: None

    def __post_init__(self) -> None:
        """Check what is given."""
        if not self.species:
            raise ConfigError(f"{self.name} supports no elements", expected="at least one")
        if self.precision not in LIMITS:
            raise unknown_name("precision", self.precision, LIMITS)

    @property
    def limits(self) -> Limits:
        """The limits of the precision."""
        return LIMITS[self.precision]
