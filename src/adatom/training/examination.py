"""What the dataset doctor says before a training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adatom.core.console import say
from adatom.core.errors import DataError
from adatom.data.atomic_data import AtomicData
from adatom.data.doctor import Finding, check_dataset
from adatom.training.lazy_systems import LazySystems

#: Structures of a dataset that is not kept in memory, which the doctor looks at.
_EXAMINED = 2000


def examine(train: Sequence[AtomicData], val: Sequence[AtomicData] | None) -> list[Finding]:
    """Let the dataset doctor look at the structures; print warnings and stop at errors.

    Args:
        train: Structures to train on.
        val: Structures for validation, if there are any.

    Returns:
        Everything that was found.

    Raises:
        DataError: If a finding is an error; the message has the first one.
    """
    others = {} if val is None else {"val": _sample(val)}
    findings = check_dataset(_sample(train), others=others)
    _report(findings)
    return findings


def _sample(systems: Sequence[AtomicData]) -> Sequence[AtomicData]:
    """Return what the doctor can look at: all structures in memory, or some of the others."""
    if not isinstance(systems, LazySystems) or len(systems) <= _EXAMINED:
        return systems
    say(f"Of {len(systems)} structures, {_EXAMINED} at random are examined.")
    rows = np.random.default_rng(0).choice(len(systems), _EXAMINED, replace=False)
    return [systems[int(row)] for row in np.sort(rows)]


def _report(findings: Sequence[Finding]) -> None:
    errors = [finding for finding in findings if finding.severity == "error"]
    for finding in findings:
        if finding.severity == "warning":
            say(f"Warning about the data: {finding.message} {finding.fix}")
    if errors:
        more = f" (and {len(errors) - 1} more errors)" if len(errors) > 1 else ""
        raise DataError(
            f"{errors[0].message}{more}",
            fix=f"{errors[0].fix} 'adatom data check' lists everything; "
            "data.check: false trains nevertheless.",
        )
