"""Sums over the processes of a training; with one process they are what was given."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import distributed


def world_size() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if _is_distributed() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if _is_distributed() else 0


def sum_over_ranks(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the sum of each tensor over all ranks, the same on every rank.

    All are summed in one message and in float64, so that counts stay exact. Every rank must call
    this with tensors of the same shapes, on the device of its process group.

    Args:
        tensors: Of any shape and dtype; no gradient flows through the sum.

    Returns:
        New tensors of the same shapes and dtypes; with one process the given ones, detached.
    """
    if not _is_distributed() or not tensors:
        return [tensor.detach() for tensor in tensors]
    flat = torch.cat([tensor.detach().double().reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [
        part.reshape(tensor.shape).to(tensor.dtype)
        for part, tensor in zip(parts, tensors, strict=True)
    ]


def on_any_rank(flag: bool | torch.Tensor, device: torch.device | str = "cpu") -> bool:
    """Return whether ``flag`` is true on at least one rank, so that all stop or go on together.

    Args:
        flag: Of this rank.
        device: Of the process group.
    """
    value = torch.as_tensor(flag, device=device).to(torch.float64)
    return bool(sum_over_ranks([value])[0] > 0.0)


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()
