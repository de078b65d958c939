"""What one measuring process is asked to do, and how it answers.

A worker prepares its program, makes one untimed call, reports, and then makes one timed call for
each line it reads, so that several workers can take turns. Answers are JSON lines behind a mark,
because libraries print to standard output too.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MARK = "@adatom-benchmark "

#: Untimed calls after the first one. fairchem-core's compiled mode may compile again when the
#: number of edges changes; MACE is partly TorchScript, which compiles during its first calls.
_SETTLING = {("fairchem", "default"): 1, ("mace", "medium"): 4}


@dataclass(frozen=True)
class Job:
    """One measurement.

    Attributes:
        program: ``"adatom"``, ``"fairchem"`` or ``"mace"``.
        mode: Settings of that program, such as ``"merged"``; the shape of a MACE.
        call: ``"ef"`` (energy and forces), ``"efs"`` (and stress), ``"ase"`` (through the ASE
            calculator, which gives all three) or ``"step"`` (of training).
        checkpoint: Official checkpoint that both programs read; a MACE has random weights.
        structure: File with the structure, or the training structures.
        threads: CPU threads.
        count: Structures in a batch (training only).
    """

    program: str
    mode: str
    call: str
    checkpoint: str
    structure: str
    threads: int = 1
    count: int = 1

    def to_json(self) -> str:
        """Return the job as one argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read :meth:`to_json`."""
        return cls(**json.loads(text))


def peak_memory() -> float:
    """Return the largest resident memory of this process so far, in GB (10^9 bytes).

    Linux keeps ``ru_maxrss`` across exec, so that it would contain the parent's; ``VmHWM`` is the
    same quantity of this program alone.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return _status_entry(status, "VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def forget_peak() -> None:
    """Start the peak anew (Linux only), so that reading a checkpoint is not counted for calls."""
    switch = Path("/proc/self/clear_refs")
    if switch.exists():
        switch.write_text("5")


def resident_memory() -> float:
    """Return the memory in use now, in GB; the peak where the system does not tell."""
    status = Path("/proc/self/status")
    return _status_entry(status, "VmRSS") if status.exists() else peak_memory()


def _status_entry(status: Path, name: str) -> float:
    for line in status.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e9
    message = f"{status} has no {name}"
    raise OSError(message)


def answer(values: dict[str, Any]) -> None:
    """Send one answer to the process that started this one."""
    sys.stdout.write(MARK + json.dumps(values) + "\n")
    sys.stdout.flush()


def serve(job: Job, call: Callable[[int], dict[str, Any]], facts: dict[str, Any]) -> None:
    """Make the untimed call and report, then one timed call per line of standard input.

    Args:
        job: For the report.
        call: Does the work; its argument counts the calls (0 is the untimed one, whose result is
            compared between programs).
        facts: Added to the report, such as versions.
    """
    loaded = peak_memory()
    forget_peak()
    started = time.perf_counter()
    values = call(0)
    first = time.perf_counter() - started
    settling = _SETTLING.get((job.program, job.mode), 0)
    for number in range(1, settling + 1):
        call(number)
    report = {"values": values, "first_seconds": first, "load_peak_gb": loaded} | facts
    answer(report | {"peak_gb": peak_memory(), "resident_gb": resident_memory()})
    # The same numbers in every program, so that all of them are timed on the same positions.
    for number, _ in enumerate(sys.stdin, start=max(_SETTLING.values()) + 1):
        started = time.perf_counter()
        call(number)
        seconds = time.perf_counter() - started
        answer({"seconds": seconds, "peak_gb": peak_memory(), "resident_gb": resident_memory()})
