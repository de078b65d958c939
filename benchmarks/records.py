"""Tables of results, with everything needed to judge and to repeat them."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from adatom.core.console import print_table, say
from adatom.core.files import atomic_write
from benchmarks.workers import ROOT

RESULTS = ROOT / "benchmarks" / "RESULTS.md"


def format_value(value: object) -> str:
    """Return a table cell: three significant digits, nothing for None."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    text = f"{value:.3g}"
    return f"{value:,.0f}" if "e+" in text else text


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown; columns of numbers are right-aligned."""
    numeric = [
        bool(rows) and all(row[i] is None or isinstance(row[i], int | float) for row in rows)
        for i in range(len(columns))
    ]
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join("---:" if right else "---" for right in numeric) + "|",
    ]
    lines += ["| " + " | ".join(format_value(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def load_average() -> str:
    """Return how many processes wanted a core in the last 1, 5 and 15 minutes."""
    if not hasattr(os, "getloadavg"):
        return "unknown"
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def revision() -> str:
    """Return the commit of this repository, and whether the package differs from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty= with changes"],  # noqa: S607 (the user's git)
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def circumstances(
    module: str, versions: Mapping[str, str], load_before: str, **more: str
) -> dict[str, str]:
    """Describe the run: date, command, machine, load, versions.

    Args:
        module: As in ``python -m MODULE``.
        versions: Package to version, of all programs that took part.
        load_before: :func:`load_average` when the run began.
        more: Added as they are.
    """
    nice = os.nice(0) if hasattr(os, "nice") else 0
    prefix = f"nice -n {nice} " if nice else ""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": f"`{prefix}python -m {module} {shlex.join(sys.argv[1:])}`".replace(" `", "`"),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "load (1, 5, 15 minutes)": f"{load_before} before, {load_average()} after",
        "commit": revision(),
        "versions": ", ".join(
            [f"Python {platform.python_version()}"]
            + [f"{name} {version}" for name, version in sorted(versions.items())]
        ),
        **more,
    }


def record(
    title: str,
    facts: Mapping[str, str],
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    notes: Sequence[str] = (),
    path: Path = RESULTS,
) -> None:
    """Print a table and append it to the record of results.

    Args:
        title: Heading.
        facts: See :func:`circumstances`.
        columns: Headings of the table.
        rows: Cells; floats get three digits.
        notes: Sentences below the table.
        path: File to append to; made if it is not there.
    """
    print_table(title, columns, [[format_value(value) for value in row] for row in rows])
    for note in notes:
        say(note)
    parts = [f"## {title}", "\n".join(f"- {name}: {value}" for name, value in facts.items())]
    parts += [markdown_table(columns, rows), *notes]
    before = path.read_text(encoding="utf-8") if path.exists() else "# Results\n"
    with atomic_write(path) as temporary:
        text = before.rstrip() + "\n\n" + "\n\n".join(parts) + "\n"
        Path(temporary).write_text(text, encoding="utf-8")
