"""Checks of one structure before anything is computed from it."""

from __future__ import annotations

from itertools import product

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

#: Large odd multipliers that make one number of three.
_PRIMES = (1, 0x9E3779B97F4A7C15 - (1 << 64), 0x2545F4914F6CDD1D)
#: Next images of a cell, one of each opposite pair.
_NEIGHBORS = np.array([step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)])


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
        check_overlap(system)


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
        if not _is_finite(getattr(system, name)):
            word = "positions" if name == "pos" else "cell"
            raise DataError(
                f"{where} has NaN or infinite numbers in its {word}", expected="finite numbers"
            )
    for name, value in system.labels.items():
        if not _is_finite(value):
            raise DataError(
                f"{where} has NaN or infinite numbers in its label {name!r}",
                expected="finite numbers",
                fix="Remove the structure, or the label of this structure.",
            )


def _is_finite(value: torch.Tensor) -> bool:
    return bool(np.isfinite(value.detach().cpu().numpy()).all())


def _check_cell(system: AtomicData, where: str) -> None:
    cell, pbc = system.cell[0].detach().cpu().numpy(), system.pbc[0].cpu().numpy()
    if not pbc.any():
        return
    zero = np.logical_not(cell.any(axis=1))
    if (zero & pbc).any():
        axes = ", ".join("abc"[i] for i in range(3) if zero[i] and pbc[i])
        raise DataError(
            f"{where} is periodic along {axes}, but the cell is zero there",
            expected="a lattice vector for every periodic direction",
            fix="Set the cell, or pbc=False for a molecule.",
        )
    if abs(float(np.linalg.det(_full_cell(cell)))) < 1e-6:
        raise DataError(
            f"{where} is periodic, but its cell has no volume",
            expected="linearly independent lattice vectors",
        )


def _full_cell(cell: Array) -> Array:
    return cell if cell.any(axis=1).all() else np.array(complete_cell(cell), dtype=np.float64)


def check_overlap(system: AtomicData) -> None:
    """Look for atoms of one system that are on top of each other, periodic images included.

    Raises:
        DataError: Naming the structure and two atoms.
    """
    period = _shortest_period(system)
    if period < OVERLAP:
        raise DataError(
            f"Structure {system.sid[0]!r} repeats after {period:.3g} angstrom",
            expected=f"periodic images of an atom more than {OVERLAP} angstrom apart",
            fix="Check the unit of the cell.",
        )
    pair = _overlapping_pair(system)
    if pair is not None:
        i, j, distance = pair
        raise DataError(
            f"Structure {system.sid[0]!r} has atoms {i} and {j} at {distance:.3f} angstrom "
            "from each other",
            expected=f"more than {OVERLAP} angstrom",
            fix="Remove the duplicate atom, or check the unit of the positions and the cell.",
        )


def _shortest_period(system: AtomicData) -> float:
    """Return the length of the shortest lattice vector, of those to the next images."""
    pbc = system.pbc[0].cpu().numpy()
    if not pbc.any():
        return np.inf
    steps = _NEIGHBORS * pbc
    images = steps[steps.any(axis=1)] @ system.cell[0].detach().cpu().numpy()
    return float(np.sqrt((images**2).sum(axis=1).min()))


def _overlapping_pair(system: AtomicData) -> tuple[int, int, float] | None:
    """Find one pair closer than OVERLAP, in O(N log N).

    Fractional coordinates times the heights of the cell never exceed Cartesian distances, so a
    search in that (rectangular, periodic) space finds every candidate; each is then measured.
    """
    pos = system.pos.detach().cpu().numpy()
    pbc = system.pbc[0].cpu().numpy()
    if not pbc.any():
        if not _may_overlap(pos, np.zeros(3)):
            return None
        for i, j in KDTree(pos).query_pairs(OVERLAP):
            return i, j, float(np.linalg.norm(pos[i] - pos[j]))
        return None
    cell = _full_cell(system.cell[0].detach().cpu().numpy())
    inverse = np.linalg.inv(cell)
    heights = 1.0 / np.sqrt((inverse**2).sum(axis=0))
    fractional = pos @ inverse
    fractional[:, pbc] %= 1.0
    fractional[:, pbc] %= 1.0  # -1e-17 % 1 is 1, which the periodic tree refuses
    box = np.where(pbc, heights, 0.0)
    coordinates = np.minimum(fractional * heights, np.where(pbc, np.nextafter(heights, 0), np.inf))
    if not _may_overlap(coordinates, box):
        return None
    tree = KDTree(coordinates, boxsize=box)
    for i, j in sorted(tree.query_pairs(OVERLAP, p=np.inf)):
        delta = fractional[i] - fractional[j]
        delta[pbc] -= np.round(delta[pbc])
        distance = float(np.linalg.norm(delta @ cell))
        if distance < OVERLAP:
            return i, j, distance
    return None


def _may_overlap(coordinates: Array, box: Array) -> bool:
    """Tell if two points may be closer than OVERLAP along every axis; far faster than a tree.

    Space is divided into bins of at least twice that length, and again into bins that are shifted
    by half of their length: along each axis, two close points share one of the two bins.

    Args:
        coordinates: ``[n, 3]``, from 0 to below the period along periodic axes.
        box: ``[3]`` period of each axis; 0 is not periodic.
    """
    periodic = box > 0.0
    counts = np.where(periodic, np.maximum(np.floor(box / (2.0 * OVERLAP)), 1.0), 1.0)
    length = np.where(periodic, box / counts, 2.0 * OVERLAP)
    place = coordinates / length
    # Per axis the bin of every point and its bin among the shifted ones, which have odd numbers.
    own = 2 * np.floor(place).astype(np.int64)
    shifted = np.floor(place + 0.5)
    shifted = 2 * np.where(periodic & (shifted >= counts), 0.0, shifted).astype(np.int64) + 1
    # Wrapping around at 2^64 can only make strangers look alike, which costs a second look.
    x, y, z = (np.stack([own[:, axis], shifted[:, axis]]) * _PRIMES[axis] for axis in range(3))
    keys = (x[:, None, None] + y[None, :, None] + z[None, None, :]).reshape(8, -1)
    keys.sort(axis=1)
    return bool((keys[:, 1:] == keys[:, :-1]).any())
