"""The checks, in the order in which they are reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from adatom.data.atomic_data import AtomicData
from adatom.data.doctor.consistency import (
    check_forces_against_energy,
    check_stress_against_energy,
    check_stress_magnitude,
)
from adatom.data.doctor.context import Context
from adatom.data.doctor.coverage import (
    check_constant_labels,
    check_coverage,
    check_energy_resolution,
    check_isolated_atoms,
)
from adatom.data.doctor.duplicates import check_duplicates, check_leaks
from adatom.data.doctor.energies import (
    check_energy_outliers,
    check_mixed_levels,
    check_total_energy_unit,
)
from adatom.data.doctor.finding import SEVERITIES, Finding
from adatom.data.doctor.forces import check_large_forces, check_net_force
from adatom.data.doctor.geometry import check_cells, check_distances, check_spin_parity

#: One function per kind of question; each returns what it found, or nothing.
CHECKS: tuple[Callable[[Context], list[Finding]], ...] = (
    check_coverage,
    check_constant_labels,
    check_cells,
    check_distances,
    check_total_energy_unit,
    check_forces_against_energy,
    check_stress_against_energy,
    check_stress_magnitude,
    check_mixed_levels,
    check_energy_outliers,
    check_large_forces,
    check_net_force,
    check_spin_parity,
    check_leaks,
    check_duplicates,
    check_energy_resolution,
    check_isolated_atoms,
)


def check_dataset(
    systems: Sequence[AtomicData], *, others: Mapping[str, Sequence[AtomicData]] | None = None
) -> list[Finding]:
    """Examine a dataset before it is trained on.

    Args:
        systems: Single structures.
        others: Other splits by name (``{"val": ...}``), searched for structures that are in
            ``systems``.

    Returns:
        Findings, errors first.

    Raises:
        DataError: If there is no structure, or an entry cannot be examined at all.
    """
    return check_context(Context.of(systems, others))


def check_context(context: Context) -> list[Finding]:
    """Run every check on a surveyed dataset; see :func:`check_dataset`."""
    findings = [finding for check in CHECKS for finding in check(context)]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
