"""Workers that are threads of one process: for tests, and to compare a partition with the whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from adatom.core.errors import GraphError

Result = TypeVar("Result")


class _Table:
    """Where the threads put what they send."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size)
        self.entries: list[Any] = [None] * size


class ThreadLinks:
    """Links between threads; see :class:`adatom.graph.links.Links`.

    Threads that call different operations, which would hang or mix up numbers between processes,
    are an error here.

    Args:
        rank: Number of this worker.
        table: Shared by all workers.
    """

    def __init__(self, rank: int, table: _Table) -> None:
        self.rank = rank
        self.size = len(table.entries)
        self.sent_bytes = 0
        self.num_calls = 0
        self._table = table

    def exchange(
        self, rows: torch.Tensor, send: Sequence[int], receive: Sequence[int]
    ) -> torch.Tensor:
        """Send rows to every worker; see :class:`adatom.graph.links.Links`."""
        # A copy, because the caller may change its rows while others still read them.
        parts = torch.split(rows.detach().clone(), list(send))
        self.sent_bytes += sum(p.nbytes for k, p in enumerate(parts) if k != self.rank)
        given = self._all(("exchange", rows.dtype, rows.shape[1:]), parts)
        own = [part[self.rank] for part in given]
        if [len(part) for part in own] != list(receive):
            raise GraphError(
                f"Worker {self.rank} is sent {[len(part) for part in own]} rows",
                expected=str(list(receive)),
            )
        return torch.cat(own)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over all workers; see :class:`adatom.graph.links.Links`."""
        self.sent_bytes += 2 * values.nbytes * (self.size - 1) // self.size
        given = self._all(("sum", values.dtype, values.shape), values.detach().clone())
        total: torch.Tensor = torch.stack(given).sum(0)
        return total

    def broadcast(self, values: torch.Tensor) -> torch.Tensor:
        """Return what worker 0 has; see :class:`adatom.graph.links.Links`."""
        self.sent_bytes += values.nbytes if self.rank == 0 else 0
        given = self._all(("broadcast", values.dtype, values.shape), values.detach().clone())
        first: torch.Tensor = given[0].clone()
        return first

    def _all(self, what: tuple[Any, ...], mine: Any) -> list[Any]:
        """Return what every worker gives."""
        self.num_calls += 1
        table = self._table
        table.entries[self.rank] = (what, mine)
        table.barrier.wait()
        entries = list(table.entries)
        table.barrier.wait()
        for rank, (other, _) in enumerate(entries):
            if other != what:
                raise GraphError(
                    f"Worker {self.rank} calls {what} while worker {rank} calls {other}",
                    expected="the same operations in the same order",
                )
        return [given for _, given in entries]

    def end(self) -> None:
        """Wait for the others, which must have finished too."""
        self._all(("end",), None)

    def give_up(self) -> None:
        """Make the others fail instead of waiting for this worker."""
        self._table.barrier.abort()


def run_workers(size: int, work: Callable[[ThreadLinks], Result]) -> list[Result]:
    """Run ``work`` in one thread per worker, linked with each other.

    Args:
        size: Number of workers.
        work: Called once per worker with its links.

    Returns:
        What the workers return, in order.

    Raises:
        Exception: What a worker raised first.
    """
    table = _Table(size)
    grad = torch.is_grad_enabled()

    def worker(rank: int) -> Result:
        links = ThreadLinks(rank, table)
        try:
            with torch.set_grad_enabled(grad):
                result = work(links)
        except BaseException:
            links.give_up()
            raise
        links.end()
        return result

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(worker, rank) for rank in range(size)]
        errors = [future.exception() for future in futures]
    causes = [e for e in errors if e is not None]
    # A broken barrier is only what the others see of the fault.
    for error in sorted(causes, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
        raise error
    return [future.result() for future in futures]
