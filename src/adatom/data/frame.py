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
        ignored: Names of the constraints that do something else.
    """

    numbers: npt.NDArray[Any]
    positions: npt.NDArray[Any]
    cell: npt.NDArray[Any]
    pbc: npt.NDArray[Any]
    info: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    fixed: npt.NDArray[np.bool_]
    ignored: tuple[str, ...] = ()

    @classmethod
    def of(cls, atoms: Atoms) -> Frame:
        """Take everything from an ASE structure; arrays are shared."""
        fixed, ignored = _fixed(atoms)
        return cls(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            info=dict(atoms.info),
            arrays={key: value for key, value in atoms.arrays.items() if key not in _OWN_ARRAYS},
            results=_results(atoms),
            fixed=fixed,
            ignored=ignored,
        )


def fixed_by(
    constraints: Iterable[Mapping[str, Any]], n: int
) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    """Return which of ``n`` atoms are held in place, and the names of other constraints.

    Args:
        constraints: As ASE writes them: ``{"name": ..., "kwargs": {...}}``.
        n: Number of atoms.

    Raises:
        KeyError: If the description of such a constraint is incomplete.
        IndexError: If it holds atoms that are not there.
    """
    fixed, ignored = np.zeros(n, dtype=bool), []
    for constraint in constraints:
        name, options = constraint["name"], constraint["kwargs"]
        # A selective-dynamics column "F F F" arrives as a FixCartesian in all three directions.
        if name == "FixAtoms" or (name == "FixCartesian" and np.all(options["mask"])):
            held = options["indices"] if "indices" in options else options["a"]
            fixed[np.asarray(held, dtype=np.int64)] = True
        else:
            ignored.append(str(name))
    return fixed, tuple(ignored)


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


def _fixed(atoms: Atoms) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    fixed, ignored = np.zeros(len(atoms), dtype=bool), []
    if not atoms.constraints:
        return fixed, ()
    from ase.constraints import FixAtoms, FixCartesian  # takes half a second the first time

    for constraint in atoms.constraints:
        whole = isinstance(constraint, FixCartesian) and bool(np.all(constraint.mask))
        if whole or isinstance(constraint, FixAtoms):
            fixed[constraint.index] = True
        else:
            ignored.append(type(constraint).__name__)
    return fixed, tuple(ignored)
