"""Threads and TF32 during a prediction; the caller's settings are back when it is done."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from adatom.core.precision import tf32, torch_threads
from adatom.inference.settings import InferenceSettings

#: Below this many edges per thread, threads wait for each other longer than they compute. The
#: compiled kernel shares out whole atoms and waits a few times per layer, PyTorch in each product.
_EDGES_PER_THREAD = 1000
_EDGES_PER_KERNEL_THREAD = 150


def edges_per_thread(mode: str | None) -> int:
    """Return how many edges a thread must have, by the mode of execution (None: not chosen yet)."""
    return _EDGES_PER_KERNEL_THREAD if mode == "compiled" else _EDGES_PER_THREAD


def threads_for(settings: InferenceSettings, edges: int, mode: str | None) -> int:
    """Return the CPU threads for a batch: as set, else by its edges, at most torch's number."""
    if settings.torch_num_threads is not None:
        return settings.torch_num_threads
    return max(1, min(torch.get_num_threads(), edges // edges_per_thread(mode)))


def thread_scope(
    settings: InferenceSettings, edges: int, mode: str | None
) -> AbstractContextManager[None]:
    """Use that many threads for a while; nothing is touched where they are right already."""
    wanted = threads_for(settings, edges, mode)
    return nullcontext() if wanted == torch.get_num_threads() else torch_threads(wanted)


def tf32_scope(settings: InferenceSettings) -> AbstractContextManager[None]:
    """Allow or forbid TF32 for a while."""
    return tf32(settings.tf32)
