"""Which cores this machine has, and where: read from ``/sys/devices/system``."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from adatom.core.errors import ConfigError

#: Numbers of the hardware threads of one core, as the system counts them.
Core: TypeAlias = tuple[int, ...]

_SYSTEM = Path("/sys/devices/system")


@dataclass(frozen=True, slots=True)
class CpuTopology:
    """The cores of a machine that a process may use.

    Attributes:
        nodes: For each NUMA node with such cores, its cores; a core is the numbers of its
            hardware threads.
    """

    nodes: tuple[tuple[Core, ...], ...]

    @property
    def cores(self) -> tuple[Core, ...]:
        """All cores, node after node."""
        return tuple(core for node in self.nodes for core in node)


def read_topology(allowed: Collection[int], system: Path = _SYSTEM) -> CpuTopology:
    """Return the cores of this machine, without hardware threads that may not be used.

    Args:
        allowed: Numbers of the hardware threads that may be used, as ``os.sched_getaffinity``
            returns them.
        system: Folder with ``node/node<n>/cpulist`` and
            ``cpu/cpu<n>/topology/thread_siblings_list``. Without the first there is one node,
            without the second each hardware thread is a core.

    Raises:
        ConfigError: If nothing is allowed, or a file has no list of numbers.
    """
    if not allowed:
        raise ConfigError("No core of this machine may be used", expected="at least one")
    found = [_numbers(path / "cpulist") for path in _numbered(system / "node", "node")]
    known = {cpu for node in found for cpu in node}
    rest = sorted(set(allowed) - known)
    nodes = []
    for cpus in [*found, rest]:
        cores: dict[int, list[int]] = {}
        for cpu in sorted(set(cpus) & set(allowed)):
            siblings = _numbers(system / "cpu" / f"cpu{cpu}" / "topology" / "thread_siblings_list")
            cores.setdefault(min(siblings, default=cpu), []).append(cpu)
        if cores:
            nodes.append(tuple(tuple(cores[first]) for first in sorted(cores)))
    return CpuTopology(tuple(nodes))


def parse_list(text: str) -> list[int]:
    """Return the numbers of a list such as ``0-3,8,10-11``.

    Raises:
        ConfigError: If it is something else.
    """
    out: list[int] = []
    for part in filter(None, text.strip().split(",")):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match is None:
            raise ConfigError(f"{text.strip()!r} is not a list of cores", expected="such as 0-3,8")
        first = int(match[1])
        out.extend(range(first, int(match[2] or first) + 1))
    return out


def _numbered(folder: Path, prefix: str) -> list[Path]:
    found = [(m, path) for path in folder.glob(f"{prefix}*") if (m := _NUMBER.search(path.name))]
    return [path for _, path in sorted((int(m[0]), path) for m, path in found)]


_NUMBER = re.compile(r"\d+$")


def _numbers(path: Path) -> list[int]:
    # Containers and other systems do not show these files.
    return parse_list(path.read_text()) if path.is_file() else []
