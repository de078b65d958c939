"""Sums over processes, with one process and with two."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import distributed, multiprocessing

from adatom.training.reduction import on_any_rank, rank, sum_over_ranks, world_size


def test_one_process_keeps_its_values() -> None:
    values = [torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor(3)]
    sums = sum_over_ranks(values)
    assert [s.tolist() for s in sums] == [[1.0, 2.0], 3]
    assert not sums[0].requires_grad
    assert (rank(), world_size()) == (0, 1)
    assert on_any_rank(True)
    assert not on_any_rank(torch.tensor(False))
    assert sum_over_ranks([]) == []


def _work(number: int, file: str) -> None:
    distributed.init_process_group("gloo", f"file://{file}", rank=number, world_size=2)
    try:
        big = 2**40 + number
        counts, floats = sum_over_ranks([torch.tensor([number, big]), torch.full((2, 1), 0.5)])
        assert counts.tolist() == [1, 2**41 + 1]
        assert counts.dtype == torch.int64
        assert floats.tolist() == [[1.0], [1.0]]
        assert floats.dtype == torch.float32
        assert (rank(), world_size()) == (number, 2)
        assert on_any_rank(number == 1)
        assert not on_any_rank(False)
    finally:
        distributed.destroy_process_group()


def test_two_processes_get_the_same_sums(tmp_path: Path) -> None:
    multiprocessing.spawn(_work, (str(tmp_path / "rendezvous"),), nprocs=2)
