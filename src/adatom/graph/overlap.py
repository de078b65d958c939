"""Refuses atoms on top of each other, with the distances that a search measures anyway."""

from __future__ import annotations

import torch

from adatom.core.errors import GraphError
from adatom.graph.candidates import SortedCandidates
from adatom.graph.periodic_systems import PeriodicSystems


def require_apart(
    systems: PeriodicSystems,
    candidates: SortedCandidates,
    square: torch.Tensor,
    min_distance: float,
) -> None:
    """Check the distance of every pair.

    Args:
        systems: The atoms.
        candidates: All pairs up to that distance at least.
        square: ``[P]`` squares of their distances, in square angstrom.
        min_distance: In angstrom; 0 allows everything.

    Raises:
        GraphError: Naming the two atoms, or the atom and its own periodic image.
    """
    if min_distance <= 0.0:
        return
    close = (square < min_distance**2).nonzero().squeeze(1)
    if not len(close):
        return
    source, target = candidates.source[close], candidates.target[close]
    # A search may give an atom itself, which is no pair.
    pairs = close[(source != target) | candidates.offsets[close].any(dim=1)]
    if not len(pairs):
        return
    pair = pairs[square[pairs].argmin()]
    i, j = sorted((int(candidates.source[pair]), int(candidates.target[pair])))
    system = int(systems.batch[i])
    first = int(systems.natoms[:system].sum())
    where = f" of system {system}" if systems.num_systems > 1 else ""
    who = f"Atoms {i - first} and {j - first}{where} are" if i != j else (
        f"Atom {i - first}{where} and its periodic image are"
    )  # fmt: skip
    raise GraphError(
        f"{who} {float(square[pair].sqrt()):.3g} angstrom from each other",
        expected=f"at least {min_distance:g} angstrom",
        fix="Remove the duplicate atom, or check the unit of the positions and the cell.",
    )
