"""Copies of a potential that share its weights, so that settings of one never reach another."""

from __future__ import annotations

import copy

import torch
from torch import nn

from adatom.core.errors import ConfigError
from adatom.models.base import Execution
from adatom.tasks.potential import Potential


def prepared(potential: Potential, device: torch.device, dtype: torch.dtype) -> Potential:
    """Return the potential frozen, in evaluation mode, as asked for, and never the same object.

    Weights are shared where they can be; those that are trained or have to change are copied.

    Raises:
        ConfigError: If the dtype or device cannot be used.
    """
    if not dtype.is_floating_point:
        raise ConfigError(f"The dtype is {dtype}", expected="a floating type such as float32")
    if any(parameter.requires_grad for parameter in potential.parameters()):
        private = copy.deepcopy(potential)
    else:
        private = sharing_weights(potential)
    try:
        private = private.to(device=device, dtype=dtype)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"The device {str(device)!r} cannot be used: {reason}") from error
    return private.eval().requires_grad_(False)


def sharing_weights(potential: Potential, execution: Execution | None = None) -> Potential:
    """Return a copy with the same memory for weights and buffers.

    Args:
        potential: Left alone.
        execution: How the copy computes; None keeps what the potential has.
    """
    shared: dict[int, torch.Tensor] = {}
    for parameter in potential.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for buffer in potential.buffers():
        shared[id(buffer)] = buffer
    private = copy.deepcopy(potential, shared)
    if execution is not None:
        private.backbone.execution = execution
    return private
