"""Rows of atoms that other workers own: who needs which, and the exchange with its derivative.

A worker owns some atoms of a system and all edges into them. The sources of these edges that it
does not own are its halo. Rows of features exist for own atoms only; :meth:`Halo.extend` appends
those of the halo, and :meth:`Halo.collect`, its adjoint, adds what arrived at the halo to the
owners' rows.

Derivatives are those of the sum of all workers' results: every worker differentiates its own
part, and the adjoint exchanges bring the rest. So all workers have to make the same exchanges in
the same order, forward and backward. Autograd goes back in the reverse order in which exchanges
were made as long as each depends on the one before or was made by the same code on every worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adatom.graph.links import Links


@dataclass(frozen=True, eq=False)
class Halo:
    """Which rows a worker sends and receives.

    Attributes:
        links: Connects the workers.
        num_own: Atoms that this worker owns.
        needed: ``[H]`` int64; the atoms of the halo, numbered in the whole system, by owner.
        sent: ``[K]`` int64; own rows that others need, by receiver.
        send: How many rows go to each worker.
        receive: How many come from each.
    """

    links: Links
    num_own: int
    needed: torch.Tensor
    sent: torch.Tensor
    send: tuple[int, ...]
    receive: tuple[int, ...]

    @classmethod
    def between(
        cls, links: Links, owner: torch.Tensor, own: torch.Tensor, needed: torch.Tensor
    ) -> Halo:
        """Tell the other workers what this one needs, and hear what they do.

        Args:
            links: Connects the workers.
            owner: ``[N]`` int64; the worker of each atom of the system.
            own: ``[n]`` int64, increasing; the atoms of this worker.
            needed: ``[H]`` int64; atoms of others that this worker needs, in any order.
        """
        owners = owner.index_select(0, needed)
        order = torch.argsort(owners * owner.shape[0] + needed)
        needed = needed.index_select(0, order)
        counts = torch.bincount(owners, minlength=links.size)
        ones = [1] * links.size
        wanted = links.exchange(counts, ones, ones)
        receive, send = tuple(counts.tolist()), tuple(wanted.tolist())
        atoms = links.exchange(needed, receive, send)
        return cls(links, int(own.shape[0]), needed, torch.searchsorted(own, atoms), send, receive)

    @property
    def num_rows(self) -> int:
        """Own atoms and those of the halo."""
        return self.num_own + int(self.needed.shape[0])

    def extend(self, rows: torch.Tensor) -> torch.Tensor:
        """Append the rows of the halo, as their owners have them.

        Args:
            rows: ``[n, ...]`` of own atoms.

        Returns:
            ``[n + H, ...]``, differentiable any number of times.
        """
        extended: torch.Tensor = _Extend.apply(rows, self)  # type: ignore[no-untyped-call]
        return extended

    def collect(self, rows: torch.Tensor) -> torch.Tensor:
        """Add the rows of the halo to those of their owners: the adjoint of :meth:`extend`.

        Args:
            rows: ``[n + H, ...]``.

        Returns:
            ``[n, ...]``, differentiable any number of times.
        """
        collected: torch.Tensor = _Collect.apply(rows, self)  # type: ignore[no-untyped-call]
        return collected

    def received(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows ``[H, ...]`` of the halo from ``[n, ...]`` of own atoms; no graph."""
        return self.links.exchange(rows.index_select(0, self.sent), self.send, self.receive)

    def returned(self, rows: torch.Tensor) -> torch.Tensor:
        """Give rows ``[H, ...]`` back to their owners; return those that come for ``sent``."""
        return self.links.exchange(rows, self.receive, self.send)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all workers, differentiable any number of times."""
        summed: torch.Tensor = _Total.apply(values, self.links)  # type: ignore[no-untyped-call]
        return summed


def atoms_needed(owner: torch.Tensor, rank: int, sources: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the distinct atoms among ``sources`` that another worker owns, ``[H]`` int64."""
    seen = torch.zeros(owner.shape[0], dtype=torch.bool, device=owner.device)
    for atoms in sources:
        seen[atoms] = True
    seen &= owner != rank
    return seen.nonzero().squeeze(1)


class _Extend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, halo: Halo) -> torch.Tensor:
        ctx.halo = halo
        return torch.cat([rows, halo.received(rows)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.halo.collect(gradients[0]), None


class _Collect(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, halo: Halo) -> torch.Tensor:
        ctx.halo = halo
        own, others = rows[: halo.num_own], rows[halo.num_own :]
        return own.index_add(0, halo.sent, halo.returned(others))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.halo.extend(gradients[0]), None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, links: Links) -> torch.Tensor:
        ctx.links = links
        return links.sum(values)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        total: torch.Tensor = _Total.apply(gradients[0], ctx.links)  # type: ignore[no-untyped-call]
        return total, None
