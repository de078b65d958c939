"""Processes of a training that keep to cores of their own, near their memory."""

from __future__ import annotations

import itertools
import os
import socket
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)
import torch
from lightning.pytorch.callbacks import Callback

from adatom.core.console import say
from adatom.core.errors import ConfigError
from adatom.training.cpu_topology import Core, CpuTopology, read_topology
from adatom.training.reduction import rank, sum_over_ranks, world_size

#: ``cores`` gives each process of a machine an equal number of its cores; ``numa`` also keeps it
#: within as few NUMA nodes as possible.
Bind = Literal["none", "cores", "numa"]

#: Hardware threads that are told to the other processes, 32 in a number, which a float64 holds.
_WORDS, _BITS = 256, 32

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CoreShare:
    """What one process gets.

    Attributes:
        cpus: Numbers of the hardware threads that it may use.
        threads: Number of computing threads, one for each core.
    """

    cpus: tuple[int, ...]
    threads: int


def share_of_cores(
    topology: CpuTopology, bind: Literal["cores", "numa"], rank: int, ranks: int
) -> CoreShare:
    """Return the cores of one of the processes on a machine.

    Cores are given out in order and are never split; shares differ by at most one core within a
    node (``numa``) or the machine (``cores``).

    Args:
        topology: Cores that all these processes may use.
        bind: With ``numa``, processes are spread over the nodes and none has cores of two, unless
            there are fewer processes than nodes, when each has whole nodes.
        rank: Number of the process on this machine, from 0.
        ranks: Number of processes on this machine.

    Raises:
        ConfigError: If there are fewer cores than processes.
    """
    nodes = [list(node) for node in topology.nodes]
    if bind == "cores" or len(nodes) == 1:
        shares = _pieces(list(topology.cores), ranks)
    elif ranks <= len(nodes):
        shares = [[core for node in several for core in node] for several in _pieces(nodes, ranks)]
    else:
        counts = [len(several) for several in _pieces(list(range(ranks)), len(nodes))]
        shares = [
            share
            for node, count in zip(nodes, counts, strict=True)
            for share in _pieces(node, count)
        ]
    if not all(shares):
        raise ConfigError(
            f"binding.bind is {bind!r}, but for {ranks} processes on this machine there are "
            f"{' and '.join(str(len(node)) for node in nodes)} cores in its NUMA nodes",
            expected="at least one core for each process",
            fix="Start fewer processes, or set binding.bind to none.",
        )
    return _as_share(shares[rank])


def arrange(
    allowed: Sequence[frozenset[int]], mine: int, bind: Literal["cores", "numa"], system: Path
) -> CoreShare:
    """Return the share of a process from what each process on its machine may use now.

    A launcher may have bound the processes before: then each keeps what it has.

    Args:
        allowed: Hardware threads of each process on this machine.
        mine: Which of these is asked for.
        bind: How to share out what all of them may use.
        system: See :func:`~adatom.training.cpu_topology.read_topology`.

    Raises:
        ConfigError: If what they may use overlaps and is not the same, or there are fewer cores
            than processes.
    """
    topology = read_topology(allowed[mine], system)
    if all(other == allowed[mine] for other in allowed):
        return share_of_cores(topology, bind, mine, len(allowed))
    if sum(map(len, allowed)) == len(frozenset().union(*allowed)):
        return _as_share(topology.cores)
    raise ConfigError(
        "The launcher has bound the processes of this machine to sets of cores that overlap",
        expected="the same cores for all of them, or none that two of them have",
        fix="Start with mpirun --bind-to none, or set binding.bind to none.",
    )


class ProcessBinding(Callback):
    """Binds every process of a run to its share of the cores of its machine while the run lasts.

    The threads that compute follow: one for each core. Afterwards everything is as it was.

    Args:
        bind: ``none`` leaves the processes where the system and the launcher put them; ``cores``
            gives each of those on a machine an equal number of cores; ``numa`` also keeps it
            within as few NUMA nodes as possible.
    """

    def __init__(self, *, bind: Bind = "none") -> None:
        super().__init__()
        self._bind = bind
        self._before: tuple[frozenset[int], int] | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Bind this process; called by the trainer when the processes know each other.

        Raises:
            ConfigError: On every process, if there are fewer cores than processes on a machine, or
                this system cannot bind.
        """
        del pl_module, stage
        if self._bind == "none" or self._before is not None:
            return
        if not hasattr(os, "sched_setaffinity"):
            raise ConfigError(
                f"binding.bind is {self._bind!r}, which this system cannot do",
                expected="Linux, or binding.bind: none",
            )
        before = frozenset(os.sched_getaffinity(0))
        allowed, mine = _on_this_machine(before, trainer.strategy.root_device)
        share = arrange(allowed, mine, self._bind, Path("/sys/devices/system"))
        self._before = (before, torch.get_num_threads())
        _keep_to(frozenset(share.cpus), share.threads)
        if trainer.is_global_zero:
            several = f"{len(allowed)} processes here; " if len(allowed) > 1 else ""
            say(
                f"Bound to cores ({several}the first has {share.threads} on processors "
                f"{_as_list(share.cpus)})."
            )

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the process back what it had."""
        del trainer, pl_module, stage
        self._release()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Give the process back what it had."""
        del trainer, pl_module, exception
        self._release()

    def _release(self) -> None:
        if self._before is not None:
            _keep_to(*self._before)
            self._before = None


def _keep_to(cpus: frozenset[int], threads: int) -> None:
    # Every thread has a mask of its own, which those that it starts inherit.
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), cpus)
        except ProcessLookupError:  # it has ended meanwhile
            continue
    torch.set_num_threads(threads)


def _on_this_machine(
    allowed: frozenset[int], device: torch.device
) -> tuple[list[frozenset[int]], int]:
    """Return what each process on this machine may use, and which one this is; collective."""
    row = torch.zeros(1 + _WORDS, dtype=torch.float64)
    row[0] = zlib.crc32(socket.gethostname().encode())
    for cpu in allowed:
        if cpu >= _WORDS * _BITS:
            raise ConfigError(f"Processor {cpu} cannot be bound to", expected="below 8192")
        row[1 + cpu // _BITS] += 2.0 ** (cpu % _BITS)
    table = torch.zeros(world_size(), 1 + _WORDS, dtype=torch.float64, device=device)
    table[rank()] = row.to(device)
    rows = sum_over_ranks([table])[0].cpu()
    here = [r for r in range(world_size()) if rows[r, 0] == row[0]]
    return [_cpus(rows[r, 1:]) for r in here], here.index(rank())


def _cpus(words: torch.Tensor) -> frozenset[int]:
    return frozenset(
        _BITS * position + bit
        for position, word in enumerate(words.to(torch.int64).tolist())
        if word
        for bit in range(_BITS)
        if word >> bit & 1
    )


def _pieces(items: list[T], parts: int) -> list[list[T]]:
    """Return adjacent pieces whose sizes differ by at most one."""
    ends = [part * len(items) // parts for part in range(parts + 1)]
    return [items[start:end] for start, end in itertools.pairwise(ends)]


def _as_share(cores: Sequence[Core]) -> CoreShare:
    return CoreShare(tuple(sorted(cpu for core in cores for cpu in core)), len(cores))


def _as_list(cpus: Sequence[int]) -> str:
    """Return ``0-3,8`` for 0, 1, 2, 3, 8."""
    parts: list[list[int]] = []
    for cpu in cpus:
        if parts and cpu == parts[-1][1] + 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(f"{a}-{b}" if b > a else str(a) for a, b in parts)
