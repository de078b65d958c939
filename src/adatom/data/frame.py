"""What a file says about one structure, before anything is checked or converted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

#: Arrays of ASE that are attributes of a frame.
_OWN_ARRAYS = ("numbers", "positions")


@dataclass(slots=True, kw_only=True)
class Frame:
    """One structure as its file has it; n atoms.

    Attributes:
        numbers: ``[n]`` whole numbers.
        positions: ``[n, 3]`` in the file's unit.
        cell: ``[3, 3]``; rows are lattice vectors (zeros without a cell).
        pbc: ``[3]`` bool.
        info: What belongs to the whole structure.
        arrays: What has one row per atom, ``tags`` included.
        results: Of the calculator that made the labels.
        fixed: ``[n]`` bool; atoms held by a constraint.
    """

    numbers: npt.NDArray[Any]
    positions: npt.NDArray[Any]
    cell: npt.NDArray[Any]
    pbc: npt.NDArray[Any]
    info: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    fixed: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, atoms: Atoms) -> Frame:
        """Take everything from an ASE structure; arrays are shared."""
        return cls(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            info=dict(atoms.info),
            arrays={key: value for key, value in atoms.arrays.items() if key not in _OWN_ARRAYS},
            results=_results(atoms),
            fixed=_fixed(atoms),
        )


def fixed_by(constraints: Iterable[Mapping[str, Any]], n: int) -> npt.NDArray[np.bool_]:
    """Return which of ``n`` atoms are held in place.

    Args:
        constraints: As ASE writes them: ``{"name": ..., "kwargs": {...}}``.
        n: Number of atoms.

    Raises:
        KeyError: If the description of such a constraint is incomplete.
        IndexError: If it holds atoms that are not there.
    """
    fixed = np.zeros(n, dtype=bool)
    for constraint in constraints:
        name, options = constraint["name"], constraint["kwargs"]
        # A selective-dynamics column "F F F" arrives as a FixCartesian in all three directions.
        if name == "FixAtoms" or (name == "FixCartesian" and np.all(options["mask"])):
            held = options["indices"] if "indices" in options else options["a"]
            fixed[np.asarray(held, dtype=np.int64)] = True
    return fixed


def _results(atoms: Atoms) -> dict[str, Any]:
    """Return results of the attached calculator that belong to the present structure."""
    calculator = atoms.calc
    results = getattr(calculator, "results", None)
    if not results:
        return {}
    changed = getattr(calculator, "check_state", None)
    if changed is not None and changed(atoms):
        return {}
    return dict(results)


def _fixed(atoms: Atoms) -> npt.NDArray[np.bool_]:
    fixed = np.zeros(len(atoms), dtype=bool)
    if not atoms.constraints:
        return fixed
    from ase.constraints import FixAtoms, FixCartesian  # takes half a second the first time

    for constraint in atoms.constraints:
        whole = isinstance(constraint, FixCartesian) and bool(np.all(constraint.mask))
        if whole or isinstance(constraint, FixAtoms):
            fixed[constraint.index] = True
    return fixed
