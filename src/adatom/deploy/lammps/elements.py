"""Elements of LAMMPS's atom types: named by the user, never guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from ase.data import atomic_masses, atomic_numbers, chemical_symbols

from adatom.core.errors import ConfigError, unknown_name

#: How elements are given: symbols in the order of the types, or a symbol for each type.
Elements = str | Sequence[str] | Mapping[int, str]

_PAIR = re.compile(r"(\d+)=(\w+)")
#: Half a mass unit tells neighbors in the periodic table apart, and lets rounded masses pass.
_MASS_TOLERANCE = 0.5


def elements_by_type(elements: Elements) -> tuple[str, ...]:
    """Return the symbols of types 1, 2, ...

    Args:
        elements: ``["Si", "O"]``, ``"Si O"``, ``"1=Si 2=O"`` or ``{1: "Si", 2: "O"}``; an element
            may have several types.

    Raises:
        ConfigError: If none are given, or not exactly one for each type from 1 on.
        UnknownNameError: If a symbol is none.
    """
    words = elements.replace(",", " ").split() if isinstance(elements, str) else elements
    if not isinstance(words, Mapping):
        words = list(words)
        numbered = [_PAIR.fullmatch(word) for word in words]
        if words and all(numbered):
            pairs = [(int(match[1]), match[2]) for match in numbered if match]
            if len(dict(pairs)) < len(pairs):
                raise ConfigError(f"The elements {elements!r} name a type twice")
            words = dict(pairs)
    if isinstance(words, Mapping):
        if sorted(words) != list(range(1, len(words) + 1)):
            raise ConfigError(
                f"Elements are named for the types {', '.join(map(str, sorted(words)))}",
                expected="one for each type, counted from 1",
            )
        words = [words[kind] for kind in sorted(words)]
    if not words:
        raise ConfigError(
            "No element is named for the atom types",
            fix="Name them in the order of the types, such as --elements Si O.",
        )
    for symbol in words:
        if symbol not in chemical_symbols[1:]:
            raise unknown_name("element", symbol, chemical_symbols[1:])
    return tuple(words)


def numbers_by_type(symbols: Sequence[str], types: int) -> npt.NDArray[np.int64]:
    """Return atomic numbers by type, ``[types + 1]`` with 0 for the type 0, which is none.

    Args:
        symbols: Of types 1, 2, ...
        types: How many types the simulation box has.

    Raises:
        ConfigError: If the numbers of symbols and types differ.
    """
    if len(symbols) != types:
        raise ConfigError(
            f"The simulation box has {types} atom type(s), and {len(symbols)} element(s) are "
            f"named: {', '.join(symbols)}",
            expected="one element for each type, in the order of the types",
            fix="Correct --elements.",
        )
    return np.array([0, *(atomic_numbers[symbol] for symbol in symbols)], dtype=np.int64)


def contradictions(symbols: Sequence[str], masses: Sequence[float]) -> list[str]:
    """Say which masses are not those of their elements; isotopes are among them.

    Args:
        symbols: Of types 1, 2, ...
        masses: Of these types, in atomic mass units; 0 where there is none yet.
    """
    found = []
    for kind, (symbol, mass) in enumerate(zip(symbols, masses, strict=True), start=1):
        usual = atomic_masses[atomic_numbers[symbol]]
        if mass == 0 or abs(mass - usual) <= _MASS_TOLERANCE:
            continue
        nearest = int(np.argmin(np.abs(atomic_masses[1:] - mass))) + 1
        near = abs(atomic_masses[nearest] - mass) <= 0.1
        whose = f"that of {chemical_symbols[nearest]}" if near else "that of no element"
        found.append(
            f"Atom type {kind} is named {symbol} ({usual:.6g}), but its mass is {mass:.6g}, {whose}"
        )
    return found
