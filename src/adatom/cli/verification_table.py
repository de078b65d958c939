"""The table and the file of a verification, and what the exit code says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adatom.evaluate.verification import Verification

_COLUMNS = ("check", "category", "verdict", "grade", "value", "limit", "unit", "s", "remark")

#: Exit code when a check failed that is more than informational.
FAILED = 1


def report(result: Verification, path: str | None) -> None:
    """Print the table, write the file, and leave with an exit code if a check failed.

    Args:
        result: All findings.
        path: File for the same as JSON, or None.

    Raises:
        SystemExit: With 1, if a mandatory or consistency check failed.
    """
    from adatom.core.console import print_table, say
    from adatom.core.files import atomic_write

    rows = [
        (
            each.check,
            each.category,
            each.verdict,
            each.finding.grade,
            each.finding.value,
            each.finding.limit,
            each.finding.unit,
            round(each.seconds, 1),
            each.finding.detail,
        )
        for each in result.results
    ]
    title = f"Verification of {result.subject}, {result.precision} precision"
    print_table(title, _COLUMNS, rows)
    if path is not None:
        with atomic_write(Path(path)) as part:
            part.write_text(json.dumps(result.to_json(), indent=2) + "\n", encoding="utf-8")
        say(f"Wrote {path}.")
    if result.failed:
        say(f"Failed: {', '.join(result.failed)}.")
        raise SystemExit(FAILED)
