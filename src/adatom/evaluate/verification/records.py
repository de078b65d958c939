"""What a verification check found, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

#: What a failure means: the potential must not be used, the potential contradicts itself, or the
#: reader should know.
Category = Literal["mandatory", "consistency", "informational"]


@dataclass(frozen=True)
class Finding:
    """What one check measured.

    Attributes:
        passed: None where the check does not apply.
        value: The largest deviation, or None where there is none to give.
        limit: The largest that passes.
        unit: Of both; empty for ratios.
        grade: A to F for the check that is graded.
        detail: One sentence, in particular why something failed or was left out.
    """

    passed: bool | None
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    grade: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class CheckResult:
    """A finding and the check that it belongs to.

    Attributes:
        check: Name of the check.
        category: What a failure means.
        seconds: Time that it took.
        finding: What was measured.
    """

    check: str
    category: Category
    seconds: float
    finding: Finding

    @property
    def verdict(self) -> str:
        """``passed``, ``FAILED`` or ``not applicable``."""
        verdicts = {True: "passed", False: "FAILED", None: "not applicable"}
        return verdicts[self.finding.passed]


@dataclass(frozen=True)
class Verification:
    """All results of one potential.

    Attributes:
        subject: Its name.
        species: The elements that it says it supports.
        precision: ``"double"`` or ``"single"``: which limits were used.
        results: In the order of the checks.
    """

    subject: str
    species: tuple[str, ...]
    precision: str
    results: tuple[CheckResult, ...]

    @property
    def failed(self) -> list[str]:
        """Names of failed checks that are more than informational."""
        return _failed(self.results)

    def __getitem__(self, check: str) -> CheckResult:
        """Return the result of one check.

        Raises:
            UnknownNameError: If it was not run.
        """
        from adatom.core.errors import unknown_name

        for result in self.results:
            if result.check == check:
                return result
        raise unknown_name("check", check, [result.check for result in self.results])

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "subject": self.subject,
            "species": list(self.species),
            "precision": self.precision,
            "failed": self.failed,
            "checks": [
                {
                    "check": result.check,
                    "category": result.category,
                    "verdict": result.verdict,
                    "seconds": result.seconds,
                    **asdict(result.finding),
                }
                for result in self.results
            ],
        }


def _failed(results: Sequence[CheckResult]) -> list[str]:
    return [
        result.check
        for result in results
        if result.finding.passed is False and result.category != "informational"
    ]
