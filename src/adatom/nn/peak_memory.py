"""How much memory a piece of work needs beyond what was in use before."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import torch

from adatom.nn.buffer_pool import release_idle

_STATUS, _SWITCH = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures the rise of memory from now to its peak.

    On a GPU this is what torch allocates there. On the CPU it is the resident memory of the
    process: exact on Linux; elsewhere only a new record of the process tells anything.

    Args:
        device: Where the work is done.

    Attributes:
        before: Bytes in use now.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._exact = False
        self.before = 0
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
            return
        _return_freed_memory()
        self._exact = _forget_peak()
        self.before = _status("VmRSS") if self._exact else _record()

    def rise(self) -> int | None:
        """Return the bytes, or None where they cannot be known."""
        if self._device.type == "cuda":
            return max(0, torch.cuda.max_memory_allocated(self._device) - self.before)
        if self._exact:
            return max(0, _status("VmHWM") - self.before)
        return (_record() - self.before) or None


def _return_freed_memory() -> None:
    """Give memory that is not in use back to the system, as it would hide what is needed next."""
    gc.collect()
    release_idle()
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _forget_peak() -> bool:
    """Start the peak of this process anew, where the system allows it."""
    try:
        _SWITCH.write_text("5", encoding="ascii")
    except OSError:
        return False
    return _STATUS.exists()


def _status(name: str) -> int:
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    message = f"{_STATUS} has no {name}"
    raise OSError(message)


def _record() -> int:
    """Return the largest resident memory of this process ever; 0 where it is not known."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
