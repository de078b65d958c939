"""A step of a network whose adjoint is written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

Gradients = tuple[torch.Tensor | None, ...]


class AdjointStep(Protocol):
    """What :func:`run_step` needs. Inputs are node features or edge vectors."""

    def run(self, inputs: Sequence[torch.Tensor], *, keep: bool) -> tuple[torch.Tensor, Any]:
        """Return the output, and what the adjoint may use again (if ``keep``)."""

    def adjoint(
        self, inputs: Sequence[torch.Tensor], kept: Any, gradient: torch.Tensor
    ) -> Gradients:
        """Return the gradients of the inputs."""

    def plain(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Compute the output with autograd, for derivatives of derivatives."""


def run_step(step: AdjointStep, *inputs: torch.Tensor) -> torch.Tensor:
    """Return the output of a step; only the inputs and what it keeps stay in memory."""
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    return _Step.apply(step, keep, *inputs)  # type: ignore[no-untyped-call, no-any-return]


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, step: AdjointStep, keep: bool, *inputs: torch.Tensor) -> torch.Tensor:
        out, ctx.kept = step.run(tuple(tensor.contiguous() for tensor in inputs), keep=keep)
        ctx.step = step
        ctx.save_for_backward(*inputs)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Gradients:
        inputs = ctx.saved_tensors
        if torch.is_grad_enabled():
            return (None, None, *_differentiable(ctx.step, inputs, gradients[0]))
        contiguous = tuple(tensor.contiguous() for tensor in inputs)
        return (None, None, *ctx.step.adjoint(contiguous, ctx.kept, gradients[0].contiguous()))


def _differentiable(
    step: AdjointStep, inputs: Sequence[torch.Tensor], gradient: torch.Tensor
) -> list[torch.Tensor | None]:
    """Return the gradients of the inputs with their own graph."""
    # Aliases, because one input may be computed from another: only the paths from here count.
    aliases = [tensor.view_as(tensor) for tensor in inputs]
    needed = [alias for alias in aliases if alias.requires_grad]
    found = iter(
        torch.autograd.grad(
            step.plain(aliases), needed, gradient, create_graph=True, allow_unused=True
        )
    )
    return [next(found) if alias.requires_grad else None for alias in aliases]
