"""Distances, cells and periodicity."""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from adatom.data.doctor.context import Context
from adatom.data.doctor.finding import Finding, Severity

#: Distances in units of the sum of covalent radii.
IMPOSSIBLE_RATIO = 0.4
SUSPICIOUS_RATIO = 0.6

#: angstrom^3 per atom.
TINY_VOLUME = 2.0

#: Smallest distance (angstrom) between a molecule and its images that is not worth a word.
MOLECULE_GAP = 3.5


def check_distances(context: Context) -> list[Finding]:
    """Report atoms that are closer than bonds are."""
    columns = context.survey
    ratio = np.where(np.isnan(columns.min_ratio), np.inf, columns.min_ratio)
    findings = []
    for severe, low, high in (
        (True, -1.0, IMPOSSIBLE_RATIO),
        (False, IMPOSSIBLE_RATIO, SUSPICIOUS_RATIO),
    ):
        rows = (ratio > low) & (ratio <= high)
        if not rows.any():
            continue
        worst = int(np.argmin(np.where(rows, ratio, np.inf)))
        pair = "-".join(chemical_symbols[z] for z in columns.min_pair[worst])
        distance = columns.min_ratio[worst] * covalent_radii[columns.min_pair[worst]].sum()
        order = np.argsort(np.where(rows, ratio, np.inf))[: int(rows.sum())]
        findings.append(
            Finding(
                "error" if severe else "warning",
                "short-distances",
                f"{int(rows.sum())} structures have atoms at less than {high:g} times the sum of "
                f"their covalent radii; the worst is {pair} at "
                f"{distance:.3f} angstrom.",
                "Check the length unit and the cell; leave out overlapping atoms."
                if severe
                else "Leave them out unless such compression is wanted.",
                columns.sids(order),
            )
        )
    return findings


def check_cells(context: Context) -> list[Finding]:
    """Report cells that contradict the periodicity, are left-handed or implausibly small."""
    columns = context.survey
    lengths = np.linalg.norm(columns.cell, axis=2)
    periodic = columns.pbc.all(axis=1)
    flat = (np.abs(columns.volume) < 1e-6) & periodic
    missing = (columns.pbc & (lengths == 0.0)).any(axis=1) | flat
    volume = np.abs(columns.volume) / columns.natoms
    cases: list[tuple[np.ndarray, Severity, str, str, str]] = [
        (
            missing,
            "error",
            "zero-cell",
            "{n} structures are periodic along an axis without a lattice vector.",
            "Give them a cell or set pbc to false.",
        ),
        (
            periodic & ~missing & (volume < TINY_VOLUME),
            "error",
            "tiny-volume",
            "{n} periodic structures have less than 2 angstrom^3 per atom.",
            "Check the length unit of the cell.",
        ),
        (
            periodic & (columns.volume < -1e-6),
            "info",
            "left-handed-cell",
            "{n} cells are left-handed.",
            "Nothing to do for adatom; some codes refuse them.",
        ),
        (
            columns.outside > 1.0,
            "info",
            "atoms-outside",
            "{n} structures have atoms more than one cell outside their cell.",
            "Harmless for energies; check that positions are Cartesian, in angstrom.",
        ),
        (
            columns.image_gap < MOLECULE_GAP,
            "warning",
            "crowded-molecule",
            "{n} periodic structures hold one molecule that is within 3.5 angstrom of its images.",
            "If it is meant to be an isolated molecule, set pbc to false or enlarge the cell.",
        ),
    ]
    return [
        Finding(severity, code, message.format(n=int(rows.sum())), fix, columns.sids(rows))
        for rows, severity, code, message, fix in cases
        if rows.any()
    ]


def check_spin_parity(context: Context) -> list[Finding]:
    """Report multiplicities that the number of electrons does not allow."""
    columns = context.survey
    electrons = columns.counts @ np.arange(columns.counts.shape[1]) - columns.charge
    wrong = (columns.spin > 0) & ((columns.spin - 1 - electrons) % 2 != 0)
    if not wrong.any():
        return []
    return [
        Finding(
            "warning",
            "spin-parity",
            f"{int(wrong.sum())} structures have a spin multiplicity that does not go with their "
            "number of electrons.",
            "spin is the multiplicity 2S+1; if the file counts unpaired electrons, say so with "
            "key_map.unpaired_electrons.",
            columns.sids(wrong),
        )
    ]
