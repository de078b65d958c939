"""How long a training will take and how much memory it needs, from one batch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from adatom.nn.peak_memory import PeakMemory
from adatom.training.batching import Rows

#: AdamW keeps two numbers for each trained one.
_OPTIMIZER_COPIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one batch took, forward and backward.

    Attributes:
        seconds: Of wall time.
        rise: Bytes of memory beyond what was in use before, or None if unknown.
        before: Bytes that were in use before.
    """

    seconds: float
    rise: int | None
    before: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Estimates for this process; validations and the optimizer's own time are left out.

    Attributes:
        step_seconds: Of a step of average size.
        epoch_seconds: Of an epoch.
        run_seconds: Of all steps.
        peak_bytes: Most memory at the largest batch, or None if unknown.
        available_bytes: Memory of the device, or None if unknown.
        largest_batch: Largest batch relative to the measured one, in edges (or atoms).
    """

    step_seconds: float
    epoch_seconds: float
    run_seconds: float
    peak_bytes: int | None
    available_bytes: int | None
    largest_batch: float


def measure(work: Callable[[], None], device: torch.device) -> Measured:
    """Do ``work`` and measure it."""
    memory = PeakMemory(device)
    _wait_for(device)
    start = time.perf_counter()
    work()
    _wait_for(device)
    return Measured(seconds=time.perf_counter() - start, rise=memory.rise(), before=memory.before)


def forecast(
    measured: Measured,
    *,
    load: int,
    loads: Rows,
    steps: int,
    batches_per_step: int,
    module: nn.Module,
    device: torch.device,
) -> Forecast:
    """Scale what one batch took to the batches of an epoch, which cost in proportion to their size.

    Args:
        measured: Of the batch.
        load: Its edges, or atoms.
        loads: ``[batches]`` the same of each batch of an epoch of this process.
        steps: Of the whole training.
        batches_per_step: Batches that a step of the optimizer has.
        module: What is trained; its gradients and the optimizer's state do not grow with a batch.
        device: Where it is.
    """
    load = max(load, 1)
    epoch = measured.seconds * float(loads.sum()) / load
    step = epoch * batches_per_step / max(len(loads), 1)
    largest = float(np.max(loads, initial=load)) / load
    trained = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    peak = None
    if measured.rise is not None:
        fixed = min(trained, measured.rise)
        growing = (measured.rise - fixed) * largest
        peak = round(measured.before + (1 + _OPTIMIZER_COPIES) * trained + growing)
    return Forecast(
        step_seconds=step,
        epoch_seconds=epoch,
        run_seconds=step * steps,
        peak_bytes=peak,
        available_bytes=memory_of(device),
        largest_batch=largest,
    )


def memory_of(device: torch.device) -> int | None:
    """Return the bytes of memory of a device, or None if they are not known."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not a POSIX system
        return None


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
