"""Numbers for monitoring, in the text format of Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

#: What is counted, and its help text.
COUNTED: Mapping[str, str] = MappingProxyType(
    {
        "http_requests": "HTTP requests by route and status",
        "rejected": "HTTP requests refused because too much was waiting",
        "disconnected": "HTTP requests whose client went away before the answer",
        "structures": "Structures by outcome: ok, or the class of the error",
        "cancelled": "Structures that nobody waited for any more when their batch began",
        "batches": "Batches computed",
        "batch_seconds": "Seconds spent computing batches",
        "edges": "Edges computed",
        "memory_splits": "Batches that did not fit into memory and were split",
        "swaps": "Potentials replaced by another of the same name",
        "failed_swaps": "Potentials that could not be loaded to replace another",
    }
)
#: Upper bounds of the latency histogram, in seconds.
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LATENCY = "adatom_latency_seconds"
Labels = tuple[tuple[str, str], ...]
#: Reads numbers, each with its labels, when they are asked for.
Read = Callable[[], Iterable[tuple[Mapping[str, str], float]]]


class Counters:
    """Counts; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[str, dict[Labels, float]] = {name: {} for name in COUNTED}
        self._latencies: dict[Labels, list[float]] = {}
        self._gauges: list[tuple[str, str, Read]] = []

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a total.

        Args:
            name: Among :data:`COUNTED`.
            amount: Not negative; nothing happens for 0.
            labels: Such as ``model="small"``.
        """
        if not amount:
            return
        key = tuple(sorted(labels.items()))
        with self._lock:
            totals = self._totals[name]
            totals[key] = totals.get(key, 0.0) + amount

    def observe(self, seconds: float, **labels: str) -> None:
        """Add one latency, from the arrival of a structure to its answer."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            # One count per bound, then the total count and the sum.
            row = self._latencies.setdefault(key, [0.0] * (len(_BOUNDS) + 2))
            for i, bound in enumerate(_BOUNDS):
                row[i] += seconds <= bound
            row[-2] += 1
            row[-1] += seconds

    def gauge(self, name: str, text: str, read: Read) -> None:
        """Show a number that is read when the text is made.

        Args:
            name: Without the prefix ``adatom_``.
            text: The help text.
            read: Returns pairs of labels and value.
        """
        self._gauges.append((name, text, read))

    def total(self, name: str, **labels: str) -> float:
        """Return a total, summed over all labels that are not given."""
        with self._lock:
            return sum(
                value
                for key, value in self._totals[name].items()
                if labels.items() <= dict(key).items()
            )

    def text(self, **common: str) -> str:
        """Return everything in the text format of Prometheus, version 0.0.4.

        Args:
            common: Labels that every line gets.
        """
        lines: list[str] = []
        with self._lock:
            for name, help_text in COUNTED.items():
                full = f"adatom_{name}_total"
                lines += [f"# HELP {full} {help_text}.", f"# TYPE {full} counter"]
                lines += [_line(full, key, n, common) for key, n in self._totals[name].items()]
            lines += [
                f"# HELP {_LATENCY} From the arrival of a structure to its answer.",
                f"# TYPE {_LATENCY} histogram",
            ]
            for key, row in self._latencies.items():
                for bound, count in zip((*map(str, _BOUNDS), "+Inf"), row[:-1], strict=True):
                    labels = (*key, ("le", bound))
                    lines.append(_line(f"{_LATENCY}_bucket", labels, count, common))
                lines.append(_line(f"{_LATENCY}_count", key, row[-2], common))
                lines.append(_line(f"{_LATENCY}_sum", key, row[-1], common))
        for name, help_text, read in self._gauges:
            full = f"adatom_{name}"
            lines += [f"# HELP {full} {help_text}.", f"# TYPE {full} gauge"]
            lines += [_line(full, tuple(labels.items()), n, common) for labels, n in read()]
        return "\n".join(lines) + "\n"


def merged(texts: Sequence[str]) -> str:
    """Join texts of several sources, whose lines differ by a label.

    Each number has its help and type once, and all its lines together, as the format wants it.

    Args:
        texts: Of :meth:`Counters.text`, at least one.
    """
    sections: dict[str, list[str]] = {}
    for text in texts:
        lines: list[str] = []
        for line in text.splitlines():
            if line.startswith("# HELP"):
                lines = sections.setdefault(line, [])
            elif line not in lines:
                lines.append(line)
    return "\n".join(line for name, lines in sections.items() for line in (name, *lines)) + "\n"


def _line(name: str, labels: Labels, value: float, common: Mapping[str, str]) -> str:
    pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in (*labels, *common.items()))
    return f"{name}{{{pairs}}} {value:.10g}" if pairs else f"{name} {value:.10g}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
