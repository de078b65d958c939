"""Energies: outliers, mixed levels of theory, and the unit of total energies."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from adatom.data.doctor.context import Context
from adatom.data.doctor.finding import Finding

#: Robust deviations (and eV/atom) beyond which an energy is an outlier.
OUTLIER_DEVIATIONS = 12.0
OUTLIER_ENERGY = 0.1

#: Smallest gap between two levels of theory, eV/atom.
LEVEL_GAP = 0.02

#: Energy of 1 hartree in units in which total energies are met.
_UNITS = {"hartree": 1.0, "rydberg": 2.0, "kcal/mol": 627.5095, "kJ/mol": 2625.4996}

_MAD_TO_STD = 1.4826
_FEW = 20


def check_energy_outliers(context: Context) -> list[Finding]:
    """Report energies per atom far from the least-squares element references."""
    columns = context.survey
    outliers = np.zeros(len(columns), dtype=bool)
    for rows in context.by_dataset():
        residual = context.residual_per_atom[rows]
        usable = np.isfinite(residual) & (columns.natoms[rows] > 1)
        if usable.sum() < _FEW:
            continue
        center = np.median(residual[usable])
        spread = _MAD_TO_STD * np.median(np.abs(residual[usable] - center))
        limit = max(OUTLIER_DEVIATIONS * spread, OUTLIER_ENERGY)
        outliers[rows[usable]] = np.abs(residual[usable] - center) > limit
    if not outliers.any():
        return []
    size = np.where(outliers, np.abs(np.nan_to_num(context.residual_per_atom)), 0.0)
    order = np.argsort(-size)[: int(outliers.sum())]
    return [
        Finding(
            "warning",
            "energy-outliers",
            f"{int(outliers.sum())} structures lie up to {size.max():.3g} eV/atom from the "
            "element references, more than 12 robust standard deviations.",
            "Look at these structures: unconverged calculations, another level of theory or "
            "broken geometries; leave them out unless they are wanted.",
            columns.sids(order),
        )
    ]


def check_mixed_levels(context: Context) -> list[Finding]:
    """Report groups of one composition with two energy levels but one kind of geometry.

    Two phases differ in energy and in geometry; two functionals or codes only in energy. So the
    two levels must overlap in the geometry fingerprint.
    """
    columns = context.survey
    findings = []
    for rows in _same_composition(context):
        energy = columns.energy_per_atom[rows]
        order = np.argsort(energy)
        gaps = np.diff(energy[order])
        cut = int(np.argmax(gaps)) + 1
        low, high = rows[order[:cut]], rows[order[cut:]]
        spread = max(columns.energy_per_atom[part].std() for part in (low, high))
        small = min(len(low), len(high))
        if small < max(3, 0.05 * len(rows)) or gaps[cut - 1] < max(LEVEL_GAP, 4.0 * spread):
            continue
        if _geometries_overlap(columns.fingerprint, low, high):
            minority = low if len(low) < len(high) else high
            findings.append(
                Finding(
                    "error",
                    "mixed-levels",
                    f"{len(low)} and {len(high)} structures of one composition and similar "
                    f"geometries lie {gaps[cut - 1]:.3g} eV/atom apart.",
                    "Two levels of theory seem to be mixed: give each its own dataset name.",
                    columns.sids(minority),
                )
            )
    return findings


def check_total_energy_unit(context: Context) -> list[Finding]:
    """Report all-electron total energies that are not in eV.

    The energy of an atom with all its electrons follows the statistical expansion
    ``-0.768745 Z^(7/3) + Z^2 / 2 - 0.269900 Z^(5/3)`` hartree (Scott 1952, Schwinger 1980) within
    2 % beyond boron, and molecules differ from atoms by less than 1 %.
    """
    columns = context.survey
    heavy = (columns.counts[:, 5:].sum(axis=1) > 0) & np.isfinite(columns.energy)
    if heavy.sum() < 2:
        return []
    z = np.arange(columns.counts.shape[1], dtype=np.float64)
    atom = -0.768745 * z ** (7 / 3) + 0.5 * z**2 - 0.269900 * z ** (5 / 3)
    atom[:5] = [0.0, -0.5, -2.904, -7.478, -14.667]
    ratio = columns.energy[heavy] / (columns.counts[heavy] @ atom)
    middle = float(np.median(ratio))
    if np.abs(ratio - middle).max() > 0.03 * abs(middle):
        return []
    for unit, factor in _UNITS.items():
        if abs(middle / factor - 1.0) < 0.025:
            return [
                Finding(
                    "error",
                    "energy-unit",
                    f"The energies are {middle / factor:.3f} times the all-electron energies of "
                    f"the atoms in {unit}, but were read as eV.",
                    f"Declare the unit of the energies, such as units.energy: {unit}.",
                )
            ]
    return []


def _same_composition(context: Context) -> list[np.ndarray]:
    columns = context.survey
    known = np.isfinite(columns.energy) & np.isfinite(columns.fingerprint).all(axis=1)
    groups: dict[tuple[object, ...], list[int]] = {}
    for i in np.flatnonzero(known):
        key = (
            columns.dataset[i],
            columns.counts[i].tobytes(),
            int(columns.charge[i]),
            int(columns.spin[i]),
        )
        groups.setdefault(key, []).append(int(i))
    return [np.array(rows) for rows in groups.values() if len(rows) >= _FEW]


def _geometries_overlap(fingerprint: np.ndarray, low: np.ndarray, high: np.ndarray) -> bool:
    few, many = sorted((fingerprint[low], fingerprint[high]), key=len)
    across, _ = cKDTree(many).query(few)
    within, _ = cKDTree(few).query(few, k=2)
    return bool(np.median(across) <= 1.5 * np.median(within[:, 1]))
