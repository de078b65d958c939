"""A scope that leaves no trace in a training: random numbers, buffers and modes are put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from adatom.training.resume import random_state, set_random_state


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Put back, bit by bit, what computing with a module may change.

    Weights and the state of optimizers are not copied: a forward pass and gradients that are only
    returned do not write to them.

    Args:
        module: What is computed with.
    """
    numbers = random_state()
    # A buffer may be registered anew during the work, so names are kept rather than tensors.
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in module.named_buffers():
                if name in buffers:
                    value.copy_(buffers[name])
        set_random_state(numbers)
