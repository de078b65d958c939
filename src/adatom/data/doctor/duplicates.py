"""Structures that occur twice, within the dataset and across splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from adatom.data.doctor.context import Context
from adatom.data.doctor.finding import Finding
from adatom.data.survey import Survey

#: Largest difference of fingerprints (angstrom) of one and the same structure.
SAME = 2e-6

#: Largest difference, times sqrt(atoms), of near-duplicates. A random displacement of every atom
#: by d changes a mean over k distances by about d / sqrt(k), so this is about 0.005 angstrom per
#: atom at any size. In cells of a few atoms, independent snapshots come that
#: near by chance, too (2 or 3 of 30 rattled 4-atom cells); hence only an info within a dataset.
NEAR = 0.008

#: eV, divided by sqrt(atoms): largest difference per atom of near-duplicates.
NEAR_ENERGY = 0.01

#: eV/atom above which equal structures contradict each other.
CONFLICT = 1e-3

_NEIGHBORS = 6


@dataclass(frozen=True, slots=True)
class Repeats:
    """Pairs of rows, the second from ``second``'s survey.

    Attributes:
        same: ``[n, 2]`` int64 equal structures.
        near: ``[n, 2]`` int64 almost equal structures.
        conflict: ``[n, 2]`` int64 equal structures with different energies.
    """

    same: np.ndarray
    near: np.ndarray
    conflict: np.ndarray


def check_duplicates(context: Context) -> list[Finding]:
    """Report duplicates, near-duplicates and contradictions within the dataset."""
    columns = context.survey
    found = repeats(columns, None)
    findings = []
    if len(found.conflict):
        findings.append(_conflict(columns, found.conflict, columns))
    if len(found.same):
        rows = np.unique(found.same[:, 1])
        agreement = _disagreement(columns, found.same, columns)
        findings.append(
            Finding(
                "info" if len(rows) < 0.05 * len(columns) else "warning",
                "duplicates",
                f"{len(rows)} of {len(columns)} structures repeat an earlier one (up to "
                f"permutation, rotation and translation){agreement}.",
                "Remove the repetitions, or make sure that a split keeps them together "
                "(adatom data split by group or composition).",
                columns.sids(rows),
            )
        )
    rows = np.setdiff1d(np.unique(found.near[:, 1]), np.unique(found.same[:, 1]))
    if len(rows):
        findings.append(
            Finding(
                "info",
                "near-duplicates",
                f"{len(rows)} of {len(columns)} structures differ from another one by less than "
                "about 0.005 angstrom per atom.",
                "Thin out the trajectory, or split by trajectory instead of at random.",
                columns.sids(rows),
            )
        )
    return findings


def check_leaks(context: Context) -> list[Finding]:
    """Report structures of other splits that the dataset contains."""
    findings = []
    for name, other in context.others.items():
        found = repeats(context.survey, other)
        if len(found.conflict):
            findings.append(_conflict(context.survey, found.conflict, other))
        same = np.unique(found.same[:, 1])
        near = np.setdiff1d(np.unique(found.near[:, 1]), same)
        agreement = _disagreement(context.survey, found.same, other)
        for rows, code, what in (
            (same, "leak", f"are also in the dataset (up to symmetry){agreement}"),
            (near, "near-leak", "differ by less than about 0.005 angstrom per atom from one in it"),
        ):
            if len(rows):
                findings.append(
                    Finding(
                        "warning",
                        code,
                        f"{len(rows)} of {len(other)} structures of {name!r} {what}.",
                        "Take them out of one of the two, or report errors without them.",
                        other.sids(rows),
                    )
                )
    return findings


def repeats(one: Survey, other: Survey | None) -> Repeats:
    """Find structures that occur in ``one`` twice, or in ``one`` and ``other``.

    Only structures of equal dataset, reduced composition, charge, spin and periodicity are
    compared, each with its nearest few in fingerprint space, so that the time grows as n log n.

    Args:
        one: Survey of the dataset.
        other: Survey of another one; None compares ``one`` with itself.
    """
    second = one if other is None else other
    mine = _buckets(one)
    theirs = mine if other is None else _buckets(second)
    parts = [
        _pairs(one, rows, second, theirs[key], within=other is None)
        for key, rows in mine.items()
        if key in theirs
    ]
    pairs = np.concatenate(parts) if parts else np.empty((0, 3))
    index = pairs[:, :2].astype(np.int64)
    difference = np.abs(one.energy_per_atom[index[:, 0]] - second.energy_per_atom[index[:, 1]])
    atoms = np.minimum(one.natoms[index[:, 0]], second.natoms[index[:, 1]])
    same = pairs[:, 2] <= SAME
    conflict = same & (difference > CONFLICT)
    near = ~same & (np.nan_to_num(difference) <= NEAR_ENERGY / np.sqrt(atoms))
    return Repeats(index[same & ~conflict], index[near], index[conflict])


def _buckets(columns: Survey) -> dict[tuple[object, ...], np.ndarray]:
    groups: dict[tuple[object, ...], list[int]] = {}
    divisor = np.gcd.reduce(columns.counts, axis=1)
    reduced = columns.counts // divisor[:, None]
    for i in np.flatnonzero(np.isfinite(columns.fingerprint).all(axis=1)):
        key = (
            columns.dataset[i],
            reduced[i].tobytes(),
            # A supercell repeats its cell; a charged one does not.
            (int(columns.charge[i]), int(columns.spin[i])),
            columns.pbc[i].tobytes() if columns.pbc[i].any() else int(columns.natoms[i]),
        )
        groups.setdefault(key, []).append(int(i))
    return {key: np.array(rows) for key, rows in groups.items()}


def _pairs(
    one: Survey, rows: np.ndarray, other: Survey, others: np.ndarray, *, within: bool
) -> np.ndarray:
    """Return ``[n, 3]``: row, other row, largest fingerprint difference; each pair once."""
    # Equal fingerprints are merged first: the nearest few of a structure that occurs a hundred
    # times would all be itself.
    points, leader, group = _merge_equal(one.fingerprint[rows])
    if within:
        merged = np.flatnonzero(leader[group] != np.arange(len(rows)))
        found = [np.stack([rows[leader[group[merged]]], rows[merged], 0.0 * merged], axis=1)]
    else:
        found = []
    leaders = rows[leader]
    queries = points if within else other.fingerprint[others]
    asked = leaders if within else others
    limit = NEAR / np.sqrt(np.minimum(one.natoms[leaders].min(), other.natoms[asked].min()))
    count = min(_NEIGHBORS + 1, len(points))
    distance, near = cKDTree(points).query(
        queries, k=[*range(1, count + 1)], p=np.inf, distance_upper_bound=1.001 * limit
    )
    query, rank = np.nonzero(distance <= limit)
    first, second = leaders[near[query, rank]], asked[query]
    gap = distance[query, rank]
    atoms = np.minimum(one.natoms[first], other.natoms[second])
    keep = gap <= np.maximum(SAME, NEAR / np.sqrt(atoms))
    if within:
        keep &= first < second
    found.append(np.stack([first[keep], second[keep], gap[keep]], axis=1))
    return np.concatenate(found)


def _merge_equal(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rounded = np.round(points / SAME).astype(np.int64)
    _, leader, group = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    return points[leader], leader, group.reshape(-1)


def _disagreement(one: Survey, pairs: np.ndarray, other: Survey) -> str:
    """Say by how much the energies of equal structures differ: the noise of the labels."""
    difference = np.abs(one.energy_per_atom[pairs[:, 0]] - other.energy_per_atom[pairs[:, 1]])
    largest = float(np.max(np.nan_to_num(difference), initial=0.0))
    return f"; their energies agree within {1e3 * largest:.2g} meV/atom" if largest > 1e-6 else ""


def _conflict(one: Survey, pairs: np.ndarray, other: Survey) -> Finding:
    difference = np.abs(one.energy_per_atom[pairs[:, 0]] - other.energy_per_atom[pairs[:, 1]])
    return Finding(
        "error",
        "conflicting-energies",
        f"{len(np.unique(pairs[:, 1]))} structures have the same distances as another one but an "
        f"energy that differs by up to {difference.max():.3g} eV/atom.",
        "Find out which is right: two levels of theory, other charge or spin (set them), an "
        "unconverged calculation; leave out the rest.",
        other.sids(np.unique(pairs[:, 1])),
    )
