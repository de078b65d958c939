"""Checks of one structure before anything is computed from it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from ase.geometry import complete_cell
from scipy.spatial import KDTree

from adatom.core.errors import DataError
from adatom.data.atomic_data import SYSTEM_LABELS, AtomicData

#: Atoms closer than this (angstrom) are on top of each other.
OVERLAP = 0.1
#: Largest atomic number (Og).
MAX_ATOMIC_NUMBER = 118

Array = npt.NDArray[np.float64]


def validate(data: AtomicData) -> None:
    """Check a system or a batch; NaN labels are allowed only as "not given" rows of a batch.

    Raises:
        DataError: Naming the structure: wrong shapes, NaN or infinite numbers, atomic numbers
            out of range, a missing cell with pbc, a cell without volume, or atoms within
            0.1 angstrom of each other (periodic images included).
    """
    systems = [data] if data.num_systems == 1 else data.unbatch()
    for system in systems:
        validate_numbers(system)
        _check_overlap(system)


def validate_numbers(system: AtomicData) -> None:
    """Check one system as :func:`validate` does, without looking for overlapping atoms."""
    where = f"Structure {system.sid[0]!r}"
    _check_shapes(system, where)
    _check_finite(system, where)
    numbers = system.atomic_numbers
    if system.num_atoms and (int(numbers.min()) < 1 or int(numbers.max()) > MAX_ATOMIC_NUMBER):
        bad = int(numbers[(numbers < 1) | (numbers > MAX_ATOMIC_NUMBER)][0])
        raise DataError(
            f"{where} has an atom with atomic number {bad}",
            expected=f"1 to {MAX_ATOMIC_NUMBER}",
            fix="Remove dummy atoms (symbol X) or correct the element.",
        )
    _check_cell(system, where)


def _check_shapes(system: AtomicData, where: str) -> None:
    n = system.num_atoms
    if n == 0:
        raise DataError(f"{where} has no atoms", expected="at least one")
    expected = {
        "pos": (n, 3),
        "atomic_numbers": (n,),
        "cell": (1, 3, 3),
        "pbc": (1, 3),
        "tags": (n,),
        "fixed": (n,),
    }
    for name, shape in expected.items():
        found = tuple(getattr(system, name).shape)
        if found != shape:
            raise DataError(f"{where} has {name} of shape {found}", expected=f"shape {shape}")
    for name, value in system.labels.items():
        rows = 1 if name in SYSTEM_LABELS else n
        if value.shape[0] != rows:
            raise DataError(
                f"{where} has the label {name} with {value.shape[0]} rows", expected=f"{rows} rows"
            )


def _check_finite(system: AtomicData, where: str) -> None:
    for name in ("pos", "cell"):
        if not bool(torch.isfinite(getattr(system, name)).all()):
            word = "positions" if name == "pos" else "cell"
            raise DataError(
                f"{where} has NaN or infinite numbers in its {word}", expected="finite numbers"
            )
    for name, value in system.labels.items():
        if not bool(torch.isfinite(value).all()):
            raise DataError(
                f"{where} has NaN or infinite numbers in its label {name!r}",
                expected="finite numbers",
                fix="Remove the structure, or the label of this structure.",
            )


def _check_cell(system: AtomicData, where: str) -> None:
    cell, pbc = system.cell[0], system.pbc[0]
    zero = (cell == 0).all(dim=1)
    if bool((zero & pbc).any()):
        axes = ", ".join("abc"[i] for i in range(3) if bool(zero[i] & pbc[i]))
        raise DataError(
            f"{where} is periodic along {axes}, but the cell is zero there",
            expected="a lattice vector for every periodic direction",
            fix="Set the cell, or pbc=False for a molecule.",
        )
    if bool(pbc.any()) and abs(float(torch.linalg.det(_full_cell(cell)))) < 1e-6:
        raise DataError(
            f"{where} is periodic, but its cell has no volume",
            expected="linearly independent lattice vectors",
        )


def _full_cell(cell: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.array(complete_cell(cell.cpu().numpy()), dtype=np.float64))


def _check_overlap(system: AtomicData) -> None:
    pair = _overlapping_pair(system)
    if pair is not None:
        i, j, distance = pair
        raise DataError(
            f"Structure {system.sid[0]!r} has atoms {i} and {j} at {distance:.3f} angstrom "
            "from each other",
            expected=f"more than {OVERLAP} angstrom",
            fix="Remove the duplicate atom, or check the unit of the positions and the cell.",
        )


def _overlapping_pair(system: AtomicData) -> tuple[int, int, float] | None:
    """Find one pair closer than OVERLAP, in O(N log N).

    Fractional coordinates times the heights of the cell never exceed Cartesian distances, so a
    search in that (rectangular, periodic) space finds every candidate; each is then measured.
    """
    pos = system.pos.detach().cpu().numpy()
    pbc = system.pbc[0].cpu().numpy()
    if not pbc.any():
        for i, j in KDTree(pos).query_pairs(OVERLAP):
            return i, j, float(np.linalg.norm(pos[i] - pos[j]))
        return None
    cell = _full_cell(system.cell[0]).numpy()
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    fractional = np.linalg.solve(cell.T, pos.T).T
    fractional[:, pbc] %= 1.0
    fractional[:, pbc] %= 1.0  # -1e-17 % 1 is 1, which the periodic tree refuses
    box = np.where(pbc, heights, 0.0)
    coordinates = np.minimum(fractional * heights, np.where(pbc, np.nextafter(heights, 0), np.inf))
    tree = KDTree(coordinates, boxsize=box)
    for i, j in sorted(tree.query_pairs(OVERLAP, p=np.inf)):
        delta = fractional[i] - fractional[j]
        delta[pbc] -= np.round(delta[pbc])
        distance = float(np.linalg.norm(delta @ cell))
        if distance < OVERLAP:
            return i, j, distance
    return None
