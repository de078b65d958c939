"""Run the checks on one potential."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from adatom.core.console import progress
from adatom.core.errors import unknown_name
from adatom.evaluate.verification.records import CheckResult, Finding, Verification
from adatom.evaluate.verification.registry import CHECKS
from adatom.evaluate.verification.subject import Subject


def verify(
    subject: Subject, checks: Sequence[str] | None = None, *, seed: int = 13
) -> Verification:
    """Run verification checks; an error of the potential is a failed check.

    Args:
        subject: The potential.
        checks: Some of :data:`~adatom.evaluate.verification.registry.CHECKS`; None runs all.
        seed: Of the random structures. Each check draws its own, whichever others are run.

    Raises:
        UnknownNameError: If there is no such check.
    """
    names = list(CHECKS) if checks is None else list(checks)
    for name in names:
        if name not in CHECKS:
            raise unknown_name("check", name, CHECKS)
    results = []
    with progress("Verifying", len(names)) as bar:
        for name in names:
            results.append(_run(name, subject, seed))
            bar.advance(check=name)
    return Verification(subject.name, tuple(subject.species), subject.precision, tuple(results))


def _run(name: str, subject: Subject, seed: int) -> CheckResult:
    check, began = CHECKS[name], time.perf_counter()
    try:
        finding = check.look(subject, np.random.default_rng([seed, list(CHECKS).index(name)]))
    except Exception as error:  # noqa: BLE001 - whatever a potential raises is a finding
        finding = Finding(passed=False, detail=f"{type(error).__name__}: {error}")
    return CheckResult(name, check.category, time.perf_counter() - began, finding)
