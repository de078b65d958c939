"""A cutoff for every pair of species."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from ase.data import chemical_symbols

from adatom.core.errors import ConfigError, unknown_name


def check_species(species: Sequence[str]) -> tuple[str, ...]:
    """Return chemical symbols whose positions are their codes.

    Raises:
        ConfigError: If there are none, or one is listed twice.
        UnknownNameError: If a symbol is no element.
    """
    for symbol in species:
        if symbol not in chemical_symbols[1:]:
            raise unknown_name("species", symbol, chemical_symbols[1:])
    if not species or len(set(species)) != len(species):
        raise ConfigError(f"The species are {list(species)}", expected="at least one, each once")
    return tuple(species)


def pair_cutoffs(
    species: Sequence[str], cutoffs: float | Mapping[str, float]
) -> tuple[tuple[float, ...], ...]:
    """Return the symmetric table ``[S][S]`` in angstrom.

    Args:
        species: S chemical symbols.
        cutoffs: One length for all pairs, or one for each unordered pair such as ``"Si-C"``.

    Raises:
        ConfigError: If a pair is missing or given twice, or a cutoff is no positive length.
        UnknownNameError: If a name is no pair of these species.
    """
    pairs = [(a, b) for i, a in enumerate(species) for b in species[i:]]
    if not isinstance(cutoffs, Mapping):
        cutoffs = {f"{a}-{b}": cutoffs for a, b in pairs}
    of_pair = {frozenset(pair): f"{pair[0]}-{pair[1]}" for pair in pairs}
    found: dict[frozenset[str], float] = {}
    for name, value in cutoffs.items():
        pair = frozenset(name.split("-"))
        if pair not in of_pair:
            raise unknown_name("pair of species", name, of_pair.values())
        if pair in found:
            raise ConfigError(f"The cutoff of {of_pair[pair]} is given twice")
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"The cutoff of {name} is {value}", expected="a positive length")
        found[pair] = float(value)
    missing = [name for pair, name in of_pair.items() if pair not in found]
    if missing:
        raise ConfigError(f"No cutoff is given for {', '.join(missing)}")
    return tuple(tuple(found[frozenset((a, b))] for b in species) for a in species)


def cosine_cutoff(distances: torch.Tensor, cutoffs: torch.Tensor) -> torch.Tensor:
    """Return ``(1 + cos(pi r / rc)) / 2`` up to the cutoff and 0 beyond, of the same shape.

    J. Behler, J. Chem. Phys. 134, 074106 (2011), eq. 4.
    """
    inside = (distances < cutoffs).to(distances.dtype)
    return 0.5 * (torch.cos(math.pi * distances / cutoffs) + 1.0) * inside
