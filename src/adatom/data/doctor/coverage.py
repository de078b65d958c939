"""Which labels are there, and are they numbers that carry information?"""

from __future__ import annotations

import numpy as np

from adatom.data.doctor.context import Context
from adatom.data.doctor.finding import Finding

_LABELS = ("energy", "forces", "stress", "relaxed_energy")
_MANY = 10


def check_coverage(context: Context) -> list[Finding]:
    """Report labels that are absent, partial or not finite."""
    columns = context.survey
    findings = []
    for name in sorted({label for row in columns.bad for label in row}):
        rows = np.array([name in row for row in columns.bad])
        findings.append(
            Finding(
                "error",
                "not-finite",
                f"{name} is NaN or infinite in {int(rows.sum())} structures.",
                "Remove these structures or correct them; an unlabelled structure should have no "
                "such entry at all.",
                columns.sids(rows),
            )
        )
    carried = {name: columns.has(name) for name in _LABELS}
    if not any(rows.any() for rows in carried.values()):
        findings.append(
            Finding(
                "error",
                "no-labels",
                "No structure has an energy, forces, a stress or a relaxed energy.",
                "Name the keys of the file with label_keys, such as energy: dft_energy.",
            )
        )
    for name, rows in carried.items():
        missing = int((~rows).sum())
        if rows.any() and missing:
            findings.append(
                Finding(
                    "info" if name == "stress" else "warning",
                    "partial-labels",
                    f"{missing} of {len(columns)} structures have no {name}.",
                    "Check that the label has one name throughout the file; otherwise these "
                    f"structures do not teach {name}.",
                    columns.sids(~rows),
                )
            )
    return findings


def check_constant_labels(context: Context) -> list[Finding]:
    """Report energies that are all equal, and forces that are exactly zero."""
    columns = context.survey
    findings = []
    for rows in context.by_dataset():
        energy = columns.energy[rows]
        known = energy[np.isfinite(energy)]
        if len(known) > 1 and known.max() == known.min():
            findings.append(
                Finding(
                    "error",
                    "equal-energies",
                    f"All {len(known)} energies are {known[0]:.8g} eV.",
                    "Check which key holds the energy; a placeholder seems to have been read.",
                )
            )
    # One or two atoms, and lattices with one atom per cell, have zero forces by symmetry.
    zero = (columns.force_max == 0.0) & (columns.natoms >= 3)
    candidates = np.isfinite(columns.force_max) & (columns.natoms >= 3)
    if zero.sum() >= 3 and zero.sum() > 0.5 * candidates.sum():
        findings.append(
            Finding(
                "error" if zero.sum() == candidates.sum() else "warning",
                "zero-forces",
                f"All forces are exactly 0 in {int(zero.sum())} of {int(candidates.sum())} "
                "structures with at least 3 atoms.",
                "Check which key holds the forces; leave them out if they were never computed.",
                columns.sids(zero),
            )
        )
    return findings


def check_energy_resolution(context: Context) -> list[Finding]:
    """Report energies that were rounded to float32 or to few decimals."""
    columns = context.survey
    known = np.isfinite(columns.energy) & (columns.energy != 0.0)
    energy, natoms = columns.energy[known], columns.natoms[known]
    if len(energy) < _MANY:
        return []
    single = energy.astype(np.float32)
    step = float(np.median(np.abs(np.spacing(single)).astype(np.float64)))
    if np.array_equal(single.astype(np.float64), energy):
        what = "are float32 numbers"
    else:
        rounded = [d for d in range(4) if np.abs(energy * 10**d % 1.0 - 0.5).min() > 0.5 - 1e-6]
        if not rounded:
            return []
        step = 10.0 ** -rounded[0]
        what = f"have at most {rounded[0]} decimals"
    if step < 2e-4:
        return []
    per_atom = 1e3 * step / float(np.median(natoms))
    return [
        Finding(
            "warning" if per_atom > 0.1 else "info",
            "quantized-energies",
            f"The energies {what}: they come in steps of {step:.2g} eV "
            f"({per_atom:.2g} meV per atom).",
            "Errors below that step cannot be learned or measured; use the original float64 "
            "energies where they exist.",
        )
    ]


def check_isolated_atoms(context: Context) -> list[Finding]:
    """Report isolated atoms among the structures."""
    columns = context.survey
    alone = (columns.natoms == 1) & ~np.isfinite(columns.min_distance)
    if not alone.any() or alone.all():
        return []
    return [
        Finding(
            "info",
            "isolated-atoms",
            f"{int(alone.sum())} structures are isolated atoms.",
            "Keep them only if the potential shall describe dissociation; they weigh on the "
            "least-squares element references.",
            columns.sids(alone),
        )
    ]
