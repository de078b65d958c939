"""Exchanges between workers: values, derivatives of any order, and operations that do not match."""

from __future__ import annotations

import pytest
import torch

from adatom.core.errors import GraphError
from adatom.graph.halo import Halo, atoms_needed
from adatom.graph.thread_links import run_workers

#: Three workers; the last one has no atoms.
OWNER = torch.tensor([0, 1, 1, 0, 0, 1])
NEEDS = ([1, 5], [3], [0, 2, 4])


def halo_of(links) -> tuple[Halo, torch.Tensor]:
    own = (links.rank == OWNER).nonzero().squeeze(1)
    needed = atoms_needed(OWNER, links.rank, [torch.tensor(NEEDS[links.rank])])
    return Halo.between(links, OWNER, own, needed), own


def test_extended_rows_are_those_of_the_owners():
    values = torch.randn(6, 2, 3, dtype=torch.float64)

    def work(links):
        halo, own = halo_of(links)
        rows = torch.cat([own, halo.needed])
        assert sorted(halo.needed.tolist()) == NEEDS[links.rank]
        numbers = torch.arange(6)[own]
        return torch.equal(halo.extend(values[own]), values[rows]) and torch.equal(
            halo.extend(numbers), rows
        )

    assert all(run_workers(3, work))


def test_collecting_is_the_adjoint_of_extending():
    def work(links):
        halo, own = halo_of(links)
        generator = torch.Generator().manual_seed(links.rank)
        x = torch.randn(len(own), 2, generator=generator).double()
        y = torch.randn(halo.num_rows, 2, generator=generator).double()
        return float((halo.extend(x) * y).sum()), float((x * halo.collect(y)).sum())

    left, right = (sum(column) for column in zip(*run_workers(3, work), strict=True))
    assert left == pytest.approx(right, abs=1e-12)


def whole_energy(x: torch.Tensor) -> torch.Tensor:
    """Return what the workers below compute together."""
    total = x.sum(0)
    energy = x.new_zeros(())
    for rank, needs in enumerate(NEEDS):
        seen = torch.cat([x[rank == OWNER], x[torch.tensor(needs)]])
        energy = energy + (seen.sin().prod(1) * total.square().sum()).sum()
    return energy


def test_first_and_second_derivatives_are_those_of_the_sum():
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    direction = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    start = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(whole_energy(start), start, create_graph=True)
    (curvature,) = torch.autograd.grad((slope * direction).sum(), start)

    def work(links):
        halo, own = halo_of(links)
        mine = x[own].requires_grad_()
        total = halo.total(mine.sum(0))
        energy = (halo.extend(mine).sin().prod(1) * total.square().sum()).sum()
        (first,) = torch.autograd.grad(energy, mine, create_graph=True)
        (second,) = torch.autograd.grad((first * direction[own]).sum(), mine)
        return own, first.detach(), second

    for own, first, second in run_workers(3, work):
        torch.testing.assert_close(first, slope[own].detach(), rtol=0, atol=1e-12)
        torch.testing.assert_close(second, curvature[own], rtol=0, atol=1e-12)


def test_bytes_are_counted():
    def work(links):
        halo, own = halo_of(links)
        before = links.sent_bytes
        halo.extend(torch.zeros(len(own), 4, dtype=torch.float32))
        return links.sent_bytes - before, len(halo.sent)

    for sent, rows in run_workers(3, work):
        assert sent == 16 * rows


def test_operations_that_do_not_match_are_an_error():
    def work(links):
        if links.rank == 0:
            return links.sum(torch.zeros(2))
        return links.broadcast(torch.zeros(2))

    with pytest.raises(GraphError, match="same operations in the same order"):
        run_workers(2, work)


def test_a_worker_that_ends_early_is_an_error():
    with pytest.raises(GraphError, match=r"\('end',\)"):
        run_workers(2, lambda links: links.sum(torch.zeros(2)) if links.rank else None)


def test_a_worker_that_fails_ends_the_others():
    def work(links):
        if links.rank == 1:
            raise ValueError("it broke")
        return links.sum(torch.zeros(2))

    with pytest.raises(ValueError, match="it broke"):
        run_workers(3, work)
