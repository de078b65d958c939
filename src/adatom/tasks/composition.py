"""The composition that merged expert weights hold for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ase.data import chemical_symbols
from ase.formula import Formula

from adatom.core.errors import DataError


@dataclass(slots=True, frozen=True)
class Composition:
    """How many atoms of each element a system has.

    Attributes:
        counts: Atomic number and count, ascending; the smallest whole numbers if ``multiples``.
        multiples: Whether larger systems of the same ratios are meant too.
    """

    counts: tuple[tuple[int, int], ...]
    multiples: bool = True

    @classmethod
    def of(cls, numbers: Iterable[int], *, multiples: bool = True) -> Composition:
        """Return the composition of a system.

        Args:
            numbers: Its atomic numbers.
            multiples: See the class.

        Raises:
            DataError: If there are no atoms.
        """
        counts = Counter(numbers)
        if not counts:
            raise DataError("A system without atoms has no composition", expected="some atoms")
        divisor = math.gcd(*counts.values()) if multiples else 1
        return cls(tuple((z, n // divisor) for z, n in sorted(counts.items())), multiples)

    def matches(self, numbers: Iterable[int]) -> bool:
        """Tell whether a system of these atomic numbers has this composition."""
        return self == Composition.of(numbers, multiples=self.multiples)

    def __str__(self) -> str:
        """Return the formula, such as ``H2O``."""
        symbols = {chemical_symbols[z]: n for z, n in self.counts}
        return str(Formula.from_dict(symbols).format("hill"))
