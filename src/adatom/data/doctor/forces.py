"""Forces: do they sum to zero, and are some far too large?"""

from __future__ import annotations

import numpy as np

from adatom.data.doctor.context import Context
from adatom.data.doctor.finding import Finding

#: Net force per atom (eV/angstrom) that is reported, and the one that is a warning.
NOTABLE_NET_FORCE = 0.001
SUSPICIOUS_NET_FORCE = 0.01

#: Forces above this (eV/angstrom) and this many medians are outliers.
LARGE_FORCE = 15.0
LARGE_FORCE_RATIO = 15.0


def check_net_force(context: Context) -> list[Finding]:
    """Report structures whose forces do not sum to zero.

    The forces of a potential always do, so the net force per atom is an error that it cannot
    reach below. Where the forces of fixed atoms were set to zero the sum means nothing.
    """
    columns = context.survey
    findings = []
    if columns.fixed_forces_zero.any():
        findings.append(
            Finding(
                "info",
                "constrained-forces",
                f"The forces of fixed atoms are 0 in {int(columns.fixed_forces_zero.sum())} "
                "structures; their net force was not checked.",
                "Keep the fixed atoms out of the loss (train_on_free_atoms: true).",
                columns.sids(columns.fixed_forces_zero),
            )
        )
    per_atom = np.where(columns.fixed_forces_zero, 0.0, columns.net_force / columns.natoms)
    per_atom = np.nan_to_num(per_atom)
    for severity, low, high in (
        ("warning", SUSPICIOUS_NET_FORCE, np.inf),
        ("info", NOTABLE_NET_FORCE, SUSPICIOUS_NET_FORCE),
    ):
        rows = (per_atom > low) & (per_atom <= high)
        if rows.any():
            findings.append(
                Finding(
                    "warning" if severity == "warning" else "info",
                    "net-force",
                    f"The forces of {int(rows.sum())} structures do not sum to zero: up to "
                    f"{per_atom[rows].max():.3g} eV/angstrom per atom (sum "
                    f"{columns.net_force[rows].max():.3g}).",
                    "Expect force errors of at least that size, or subtract the mean force; look "
                    "for an external field, a loose grid or forces of other positions.",
                    columns.sids(rows),
                )
            )
    return findings


def check_large_forces(context: Context) -> list[Finding]:
    """Report structures with forces far above the rest."""
    columns = context.survey
    known = columns.force_max[np.isfinite(columns.force_max) & (columns.force_max > 0.0)]
    if len(known) == 0:
        return []
    limit = max(LARGE_FORCE, LARGE_FORCE_RATIO * float(np.median(known)))
    rows = np.nan_to_num(columns.force_max) > limit
    if not rows.any():
        return []
    order = np.argsort(-np.nan_to_num(columns.force_max))[: int(rows.sum())]
    return [
        Finding(
            "warning",
            "force-outliers",
            f"{int(rows.sum())} structures have forces above {limit:.3g} eV/angstrom (largest "
            f"{known.max():.4g}, median of the largest per structure {np.median(known):.3g}).",
            "Look at these structures; leave them out unless such compression is wanted.",
            columns.sids(order),
        )
    ]
