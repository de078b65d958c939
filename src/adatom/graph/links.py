"""What connects the workers that share one system: rows from all to all, and sums over all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import distributed


class Links(Protocol):
    """Collective operations of a group of workers; all of them call the same in the same order.

    Attributes:
        rank: Number of this worker.
        size: Number of workers.
        sent_bytes: What this worker has sent to others so far.
        num_calls: How many operations there were so far.
    """

    rank: int
    size: int
    sent_bytes: int
    num_calls: int

    def exchange(
        self, rows: torch.Tensor, send: Sequence[int], receive: Sequence[int]
    ) -> torch.Tensor:
        """Send rows to every worker and return those that come.

        Args:
            rows: ``[sum(send), ...]``, those for worker 0 first.
            send: How many go to each worker.
            receive: How many come from each worker.

        Returns:
            ``[sum(receive), ...]``, those of worker 0 first.
        """

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all workers, the same for all of them; the argument stays."""

    def broadcast(self, values: torch.Tensor) -> torch.Tensor:
        """Return the tensor of worker 0, which has the shape and dtype of each one's own."""


class ProcessLinks:
    """Workers are the processes of a group of torch.distributed (gloo or nccl).

    Args:
        group: The group, or None for the default one.
    """

    def __init__(self, group: distributed.ProcessGroup | None = None) -> None:
        self._group = group
        self.rank = distributed.get_rank(group)
        self.size = distributed.get_world_size(group)
        self._root = distributed.get_global_rank(group, 0) if group is not None else 0
        self.sent_bytes = 0
        self.num_calls = 0

    def exchange(
        self, rows: torch.Tensor, send: Sequence[int], receive: Sequence[int]
    ) -> torch.Tensor:
        """Send rows to every worker; see :class:`Links`."""
        rows = rows.detach().contiguous()
        out = rows.new_empty((sum(receive), *rows.shape[1:]))
        distributed.all_to_all_single(out, rows, list(receive), list(send), group=self._group)
        self._count(rows.nbytes - _share(rows, send[self.rank]))
        return out

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over all workers; see :class:`Links`."""
        out = values.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(out, group=self._group)
        self._count(2 * out.nbytes * (self.size - 1) // self.size)
        return out

    def broadcast(self, values: torch.Tensor) -> torch.Tensor:
        """Return what worker 0 has; see :class:`Links`."""
        out = values.detach().clone(memory_format=torch.contiguous_format)
        distributed.broadcast(out, self._root, group=self._group)
        self._count(out.nbytes if self.rank == 0 else 0)
        return out

    def _count(self, sent: int) -> None:
        self.sent_bytes += sent
        self.num_calls += 1


def _share(rows: torch.Tensor, count: int) -> int:
    """Return the bytes of ``count`` of the rows."""
    return count * rows.element_size() * rows[:1].numel() if rows.shape[0] else 0


class LocalLinks:
    """One worker alone; see :class:`Links`."""

    def __init__(self) -> None:
        self.rank = 0
        self.size = 1
        self.sent_bytes = 0
        self.num_calls = 0

    def exchange(
        self, rows: torch.Tensor, send: Sequence[int], receive: Sequence[int]
    ) -> torch.Tensor:
        """Return the rows."""
        del send, receive
        return rows.detach()

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values."""
        return values.detach()

    def broadcast(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values."""
        return values.detach()
