"""How much memory a batch takes, learned from the batches before it."""

from __future__ import annotations

import os
import resource
import sys
from collections import deque
from pathlib import Path

import torch

#: Bytes per edge and per atom that are assumed before anything was measured: generous.
_ASSUMED = (100_000.0, 50_000.0)
#: No batch is planned for more than this times the largest one that went well.
_GROWTH = 4.0
#: Planned memory over measured memory.
_SAFETY = 1.25
#: Bytes that libraries and buffers take once, whatever the batch.
_FIXED = 2**26
#: Measurements that are remembered.
_REMEMBERED = 16
#: Planned memory after a failure, over that of the batch that failed; and growth per success.
_AFTER_FAILURE, _RECOVERY = 0.7, 1.02
#: Edges and atoms of the first batch.
_FIRST = (4096, 512)
#: More edges at once gain nothing on a processor, whose tiles are much smaller (64 molecules with
#: a network of UMA-S shape: 11.1, 9.9 and 10.0 s in batches of 1000, 4000 and 16000 edges).
MAX_CPU_EDGES = 8192


class MemoryModel:
    """Bytes per edge and per atom, and what fits.

    Args:
        device: Where batches are computed.
        budget: Bytes that a batch may take.
        per_kind: Bytes of the expert weights that are merged for each composition in a batch.

    Attributes:
        largest: Edges and atoms of the largest batch that went well.
        failures: How many batches memory did not suffice for.
    """

    def __init__(self, device: torch.device, budget: float, per_kind: float = 0.0) -> None:
        self.device = device
        self.budget = budget
        self.per_kind = per_kind
        self.largest = (0, 0)
        self.failures = 0
        self._measured: deque[tuple[int, int, float]] = deque(maxlen=_REMEMBERED)
        self.per_edge, self.per_atom = _ASSUMED
        # Lowered when memory runs out below the budget, and raised again by every success,
        # because others may have held it then.
        self._ceiling = float("inf")

    @property
    def learned(self) -> bool:
        """Whether anything was measured."""
        return bool(self._measured)

    def bytes_of(self, edges: int, atoms: int, kinds: int = 1) -> float:
        """Return the memory that a batch is expected to take, besides what is taken once."""
        variable = self.per_edge * edges + self.per_atom * atoms
        return _SAFETY * variable + self.per_kind * kinds

    def fits(self, edges: int, atoms: int, kinds: int = 1) -> bool:
        """Tell whether a batch may be this large now."""
        most_edges = max(_FIRST[0], _GROWTH * self.largest[0])
        most_atoms = max(_FIRST[1], _GROWTH * self.largest[1])
        if self.device.type == "cpu":
            most_edges = min(most_edges, MAX_CPU_EDGES)
        if edges > most_edges or atoms > most_atoms:
            return False
        return self.bytes_of(edges, atoms, kinds) <= min(self.budget, self._ceiling)

    def succeeded(self, edges: int, atoms: int, kinds: int, taken: float | None) -> None:
        """Learn from a batch that went well.

        Args:
            edges: Its edges.
            atoms: Its atoms.
            kinds: Its compositions.
            taken: Bytes it took at most; None if that could not be measured.
        """
        self.largest = (max(self.largest[0], edges), max(self.largest[1], atoms))
        self._ceiling *= _RECOVERY
        variable = 0.0 if taken is None else taken - _FIXED - self.per_kind * kinds
        if variable > 0 and edges + atoms > 0:
            self._measured.append((edges, atoms, variable))
            self.per_edge, self.per_atom = _fit(list(self._measured))

    def failed(self, edges: int, atoms: int, kinds: int = 1) -> None:
        """Learn from a batch that memory did not suffice for."""
        self.failures += 1
        self._ceiling = min(self._ceiling, _AFTER_FAILURE * self.bytes_of(edges, atoms, kinds))
        self.largest = (min(self.largest[0], edges // 2), min(self.largest[1], atoms // 2))


def _fit(measured: list[tuple[int, int, float]]) -> tuple[float, float]:
    """Return bytes per edge and per atom that no measurement exceeds.

    The two shares are taken in the proportion that is assumed at first; the sizes of batches of
    one kind vary too little to tell them apart.
    """
    edge, atom = _ASSUMED
    factor = max(taken / (edge * edges + atom * atoms) for edges, atoms, taken in measured)
    return factor * edge, factor * atom


class PeakMemory:
    """Measures what is allocated at most between its beginning and :meth:`taken`.

    Args:
        device: Where to look.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self._before = float(torch.cuda.memory_allocated(device))
        else:
            self._before = _resident() or 0.0
            self._peak = _peak_resident()

    def taken(self) -> float | None:
        """Return bytes, or None where they cannot be measured.

        On a processor the peak of the whole process is all that is known: a batch that stays
        below an earlier peak measures nothing.
        """
        if self._device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self._device)) - self._before
        peak = _peak_resident()
        if not self._before or peak <= self._peak:
            return None
        return peak - self._before


def free_memory(device: torch.device) -> float:
    """Return free bytes of a device, as far as the system tells."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    free = _available()
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    if limit is not None and used is not None:
        free = min(free, max(0.0, limit - used))
    return free


def _available() -> float:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable"):
                return float(line.split()[1]) * 1024
    except OSError:
        pass
    # Elsewhere all that is known is the whole: half of it is taken for free.
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 2


def _cgroup(name: str) -> float | None:
    try:
        return float(Path("/sys/fs/cgroup", name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _resident() -> float | None:
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return float(pages) * os.sysconf("SC_PAGE_SIZE")


def _peak_resident() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) * (1 if sys.platform == "darwin" else 1024)
