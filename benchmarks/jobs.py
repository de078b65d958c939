"""What one measuring process is asked to do, and how it answers.

A worker loads its program, reports, and then makes one timed call for each line it reads, so that
several workers can take turns. Answers are JSON lines behind a mark, because libraries print to
standard output too.
"""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MARK = "@adatom-benchmark "


@dataclass(frozen=True)
class Job:
    """One measurement.

    Attributes:
        program: ``"adatom"``, ``"fairchem"`` or ``"mace"``.
        mode: Settings of that program, such as ``"merged"``; the shape of a MACE.
        call: ``"ef"`` (energy and forces), ``"efs"`` (and stress), ``"ase"`` (through the ASE
            calculator, which gives all three), ``"batch"`` (energy and forces of all structures of
            the file) or ``"step"`` (of training).
        checkpoint: Official checkpoint that both programs read; a MACE has random weights.
        structure: File with the structure or structures.
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


def return_freed_memory() -> None:
    """Give memory that is not in use back to the system, where the C library can do so."""
    gc.collect()
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def serve(
    load: Callable[[], Callable[[int], dict[str, Any]]],
    describe: Callable[[], dict[str, Any]],
    release: Callable[[], None] | None = None,
) -> None:
    """Load and report, then make one timed call per line of standard input.

    Every answer to a line has the call's ``seconds``, its ``peak_gb`` and the ``resident_gb``
    after it. The first one has the ``values``, which are compared between programs; memory that is
    free after it is given back, so that what stays is the loaded model.

    Args:
        load: Makes the program ready, and returns what one call does; the argument of that counts
            the calls. The same numbers mean the same positions in every program.
        describe: Added to the report, such as versions; called after loading, not timed.
        release: Gives up what the program reserves between calls, so that the loaded model is what
            stays after the first one.
    """
    imports = resident_memory()
    started = time.perf_counter()
    call = load()
    seconds = time.perf_counter() - started
    memory = {"load_peak_gb": peak_memory(), "resident_gb": resident_memory()}
    answer({"load_seconds": seconds, "imports_gb": imports} | memory | describe())
    for number, _ in enumerate(sys.stdin):
        forget_peak()
        started = time.perf_counter()
        values = call(number)
        seconds = time.perf_counter() - started
        done: dict[str, Any] = {"seconds": seconds, "peak_gb": peak_memory()}
        if number == 0:
            if release is not None:
                release()
            return_freed_memory()
            done["values"] = values
        answer(done | {"resident_gb": resident_memory()})
