"""Words of a descriptor file, read one after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ase.data import atomic_numbers

from adatom.core.errors import DataError


class Words:
    """What is left of a file; a comment runs from # to the end of its line, layout is free.

    Args:
        text: The file.
    """

    def __init__(self, text: str) -> None:
        lines = (line.split("#")[0] for line in text.splitlines())
        self._words = [word for line in lines for word in line.split()]

    def __len__(self) -> int:
        return len(self._words)

    def peek(self) -> str:
        """Return the next word without taking it, or an empty text at the end."""
        return self._words[0] if self._words else ""

    def take(self, what: str) -> str:
        """Return the next word.

        Raises:
            DataError: If there is none.
        """
        if not self._words:
            raise DataError(f"It ends before {what}")
        return self._words.pop(0)

    def number(self, what: str) -> float:
        """Return the next word as a finite number.

        Raises:
            DataError: If it is none.
        """
        word = self.take(what)
        if not is_number(word):
            raise DataError(f"It has {word!r} for {what}", expected="a number")
        return float(word)

    def whole(self, what: str, least: int = 0) -> int:
        """Return the next word as a whole number.

        Raises:
            DataError: If it is none, or below ``least``.
        """
        value = self.number(what)
        if value != int(value) or value < least:
            raise DataError(f"It has {value:g} for {what}", expected=f"a whole number from {least}")
        return int(value)

    def flag(self, what: str) -> bool:
        """Return the next word as a yes (1, True) or no (0, False).

        Raises:
            DataError: If it is neither.
        """
        word = self.take(what)
        choices: Mapping[str, bool] = {"0": False, "1": True, "false": False, "true": True}
        if word.lower() not in choices:
            raise DataError(f"It has {word!r} for {what}", expected="0, 1, False or True")
        return choices[word.lower()]

    def pair_cutoffs(self) -> tuple[tuple[str, ...], dict[str, float]]:
        """Read the number of species and then rows of two species and a cutoff.

        Published writers list each pair once, or both ways.

        Returns:
            The species in the order in which they come, and a length per unordered pair.

        Raises:
            DataError: If rows contradict each other, are too few, or are of more species.
        """
        count = self.whole("the number of species", least=1)
        species: list[str] = []
        found: dict[frozenset[str], float] = {}
        while self.peek() in atomic_numbers:
            pair = (self.take("a species"), self.take("a second species"))
            value = self.number(f"the cutoff of {'-'.join(pair)}")
            if found.setdefault(frozenset(pair), value) != value:
                raise DataError(f"It gives two different cutoffs for {'-'.join(pair)}")
            species += [symbol for symbol in dict.fromkeys(pair) if symbol not in species]
        if len(species) != count:
            raise DataError(f"It promises {count} species and lists {len(species)}")
        pairs = [(a, b) for i, a in enumerate(species) for b in species[i:]]
        missing = [f"{a}-{b}" for a, b in pairs if frozenset((a, b)) not in found]
        if missing:
            raise DataError(f"It gives no cutoff for {', '.join(missing)}")
        return tuple(species), {f"{a}-{b}": found[frozenset((a, b))] for a, b in pairs}


def is_number(word: str) -> bool:
    """Tell whether a word is a finite number."""
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
