"""Times and sizes for reading."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a time with two or three digits, such as ``"0.12 s"``, ``"4.2 min"``, ``"31 h"``."""
    for unit, length, most in (("s", 1.0, 100.0), ("min", 60.0, 100.0), ("h", 3600.0, 72.0)):
        if seconds < most * length:
            return f"{_short(seconds / length)} {unit}"
    return f"{_short(seconds / 86400.0)} days"


def memory_size(count: float) -> str:
    """Return a number of bytes with two or three digits, such as ``"640 MB"``, ``"1.3 GB"``."""
    for unit, size in (("kB", 1e3), ("MB", 1e6)):
        if count < 999.5 * size:
            return f"{_short(count / size)} {unit}"
    return f"{_short(count / 1e9)} GB"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.2g}"
