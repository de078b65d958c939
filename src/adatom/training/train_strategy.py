"""How the processes of a training share the work on one potential."""

from __future__ import annotations

from enum import StrEnum


class TrainStrategy(StrEnum):
    """What every process holds; all of them compute the same losses.

    ``ddp``: all weights. ``fsdp``: a part of the weights, which are gathered for each step.
    """

    DDP = "ddp"
    FSDP = "fsdp"
