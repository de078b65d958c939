"""The HTML report of a run directory."""

from __future__ import annotations

from pathlib import Path

from adatom.training.run_directory import RunDirectory


def write_training_report(run: RunDirectory) -> Path | None:
    """Write ``report.html`` from what a run directory holds.

    Returns:
        Its path, or None if the run has logged nothing.

    Raises:
        FileAccessError: If it cannot be written.
    """
    from adatom import __version__
    from adatom.report.learning_curves import read_learning_curves
    from adatom.report.training_page import write_training_page

    if not (run.path / "metrics.csv").exists():
        return None
    curves = read_learning_curves(run.path)
    if (run.path / "speed.csv").exists():
        curves |= read_learning_curves(run.path, "speed.csv")
    path = run.path / "report.html"
    write_training_page(
        path,
        run.contents(),
        curves,
        config=(run.path / "config.yaml").read_text(encoding="utf-8"),
        footer=f"adatom {__version__}, {run.path}",
    )
    return path
