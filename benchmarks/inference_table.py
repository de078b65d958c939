"""The table of :mod:`benchmarks.inference`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.modes import MODES, title_of
from benchmarks.shapes import MACE_SHAPES

if TYPE_CHECKING:
    from benchmarks.inference import Measured
    from benchmarks.workers import Worker

CALLS = {
    "ef": "predict unit, E+F",
    "efs": "predict unit, E+F+stress",
    "ase": "ASE calculator, E+F+stress",
    "batch": "predict unit, all structures, E+F",
}
COLUMNS = (
    "structure",
    "atoms",
    "edges",
    "call",
    "program",
    "malloc",
    "calls",
    "best ms",
    "median ms",
    "times faster than fairchem's fastest",
    "first call s",
    "load s",
    "loaded GB",
    "peak beyond GB",
    "peak GB",
    "max dE, dF",
)
NOTE = (
    "Times faster: median over rounds of the time of fairchem's fastest mode (by its median in the "
    "same structure and environment) over this one's in the same round. First call: with "
    "everything compiled and merged. fairchem's programs load at the same time as each other, and "
    "with --together make their first calls so: those times are upper bounds (benchmarks.loading "
    "measures one process at a time). Loaded GB: "
    "resident after the first call, freed memory given back, imports included. Peak beyond: of a "
    "timed call, less loaded GB. Peak GB: of the process during calls, the first one included. max "
    "dE, dF: largest difference from the first row, eV and eV/angstrom."
)
MACE_NOTE = (
    "mace-torch {shape}: another architecture ({hidden_irreps}, {layers} layers, max_ell "
    "{max_ell}, correlation {correlation}, cutoff {cutoff} angstrom) with random weights, through "
    "its ASE calculator in its standard mode. Its size is not matched to adatom's: only speed and "
    "memory stand side by side, and its values mean nothing."
)


def rows_of(measured: Sequence[Measured]) -> list[list[object]]:
    """Return one row per measurement of one structure and kind of call."""
    workers = [one.worker for one in measured]
    return [_row(one, fastest(measured, one.malloc), size_of(workers)) for one in measured]


def fastest(measured: Sequence[Measured], malloc: str) -> Worker | None:
    """Return fairchem's fastest mode in an environment, or None where it takes no part."""
    candidates = [
        one.worker
        for one in measured
        if one.malloc == malloc and one.worker.job.program == "fairchem"
    ]
    return min(candidates, key=lambda worker: worker.timings.median, default=None)


def size_of(workers: Sequence[Worker]) -> tuple[int | None, int | None]:
    """Return atoms and edges, which adatom's programs know."""
    reports = (worker.report for worker in workers if worker.job.program == "adatom")
    found = next((report for report in reports if "atoms" in report), {})
    return found.get("atoms"), found.get("edges")


def _row(
    one: Measured, reference: Worker | None, size: tuple[int | None, int | None]
) -> list[object]:
    job, timings, report = one.worker.job, one.worker.timings, one.worker.report
    atoms, edges = report.get("atoms", size[0]), report.get("edges", size[1])
    different = job.program == "mace"
    return [
        Path(job.structure).stem,
        atoms,
        edges,
        CALLS[job.call],
        title_of(job),
        one.malloc,
        len(timings.seconds),
        timings.best * 1e3,
        timings.median * 1e3,
        None if reference is None else timings.times_faster_than(reference.timings),
        float(report["first_seconds"]),
        float(report["load_seconds"]),
        float(report["idle_gb"]),
        max(0.0, timings.peak_gb - report["idle_gb"]),
        max(timings.peak_gb, report["first_peak_gb"]),
        "not comparable" if different else str(one.deviation or ""),
    ]


def notes_of(modes: Sequence[str]) -> list[str]:
    """Return the sentences below the table.

    Args:
        modes: Those that were chosen, names among :data:`MODES`.
    """
    shapes = [MODES[name].settings for name in modes if MODES[name].program == "mace"]
    return [NOTE, *(MACE_NOTE.format(shape=shape, **MACE_SHAPES[shape]) for shape in shapes)]
