"""Memory does not grow with the number of evaluations or calculators (KIM: vc-memory-leak)."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from pathlib import Path

import numpy as np
from ase import Atoms

from adatom.evaluate.verification.comparison import evaluate
from adatom.evaluate.verification.records import Finding
from adatom.evaluate.verification.structures import cluster, some_of
from adatom.evaluate.verification.subject import Subject

_STATISTICS = Path("/proc/self/statm")
#: MB that the process may grow by, in no and in all of the evaluations.
_UNAVOIDABLE, _LIMIT = 2.0, 5.0
_WARM, _EVALUATIONS, _CALCULATORS = 30, 2000, 100
#: Seconds after which no more than the fewest are done.
_PATIENCE, _FEWEST, _FEWEST_CALCULATORS = 4.0, 200, 10


def check_memory(subject: Subject, rng: np.random.Generator) -> Finding:
    """Evaluate up to 2000 times and make up to 100 calculators; resident memory stays."""
    if not _STATISTICS.exists():
        return Finding(passed=None, detail="This system does not tell the memory of a process.")
    atoms = cluster(some_of(subject.species, rng), rng, lattice="bcc")
    _evaluate_often(subject, atoms, _WARM)
    _make_often(subject, atoms, _FEWEST_CALCULATORS)
    start = _resident()
    calls = _evaluate_often(subject, atoms, _EVALUATIONS)
    after_calls = _resident()
    made = _make_often(subject, atoms, _CALCULATORS)
    growth = {"evaluations": after_calls - start, "calculators": _resident() - after_calls}
    worst = max(growth.values())
    limit = _UNAVOIDABLE + (_LIMIT - _UNAVOIDABLE) * calls / _EVALUATIONS
    detail = "; ".join(
        f"{growth[name]:.1f} MB in {count} {name}"
        for name, count in (("evaluations", calls), ("calculators", made))
    )
    return Finding(
        passed=worst <= limit, value=max(worst, 0.0), limit=limit, unit="MB", detail=detail
    )


def _evaluate_often(subject: Subject, atoms: Atoms, most: int) -> int:
    calculator, began = subject.make(), time.perf_counter()
    moved, count = atoms.copy(), 0
    while count < most and (count < _FEWEST or time.perf_counter() - began < _PATIENCE):
        # Positions that were never seen: nothing can be looked up.
        moved.positions = atoms.positions + 1e-3 * (count % 97) / 97
        moved.positions[0, 0] += 1e-4 * (count % 89) / 89
        evaluate(calculator, moved)
        count += 1
    subject.close(calculator)
    return count


def _make_often(subject: Subject, atoms: Atoms, most: int) -> int:
    began, count = time.perf_counter(), 0
    while count < most and (count < _FEWEST_CALCULATORS or time.perf_counter() - began < _PATIENCE):
        calculator = subject.make()
        evaluate(calculator, atoms)
        subject.close(calculator)
        del calculator
        count += 1
    return count


def _resident() -> float:
    """Return the resident memory in MB, after what is free was given back."""
    gc.collect()
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
    pages = int(_STATISTICS.read_text(encoding="ascii").split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
