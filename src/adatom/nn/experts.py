"""Mixtures of linear experts: one weighted sum of weight matrices per system.

The coefficients depend on the system only (composition, charge, spin, dataset), so the sum is
taken over the weights and each group of equal systems pays for one ordinary linear map (Wood et
al., UMA, 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from adatom.core.errors import unknown_name
from adatom.nn.initialization import AFTER_SILU, fill_normal, linear

#: Added to each softmax coefficient, so that no expert is ever without gradient.
_COEFFICIENT_FLOOR = 0.005
#: Added to each absolute logit of the other norm.
_PNORM_SHIFT = 2.0
#: The choices of ``expert_coefficient_norm``.
COEFFICIENT_NORMS = ("softmax", "pnorm")


class Run(NamedTuple):
    """Consecutive rows that share one group's weights."""

    group: int
    start: int
    stop: int


class Mixture(NamedTuple):
    """Which weights apply to which rows.

    Attributes:
        coefficients: ``[G, X]`` weight of each expert in each group, or None without experts.
        runs: The rows, in order and without gaps.
    """

    coefficients: torch.Tensor | None
    runs: list[Run]


class MixedLinear(nn.Module):
    """A linear layer, plain (``weight``) or with experts (``weights``) and a shared bias.

    Args:
        in_features: Size of the input.
        out_features: Size of the output.
        num_experts: X; 0 makes a plain layer.
        bias: Whether there is a bias.
        gain: Standard deviation of the output for unit-variance input.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        num_experts: int = 0,
        bias: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_experts = num_experts
        shape = (out_features, in_features)
        if num_experts:
            self.weights = nn.Parameter(torch.empty(num_experts, *shape))
            # Experts start independent with softmax near uniform: the sum has variance 1/X.
            fill_normal(self.weights, in_features, gain * num_experts**0.5)
        else:
            self.weight = nn.Parameter(torch.empty(*shape))
            fill_normal(self.weight, in_features, gain)
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    @property
    def stored(self) -> torch.Tensor:
        """The trained weights, ``[X, out, in]`` or ``[out, in]``."""
        return self.weights if self.num_experts else self.weight

    def merged(self, coefficients: torch.Tensor | None) -> torch.Tensor:
        """Return one weight matrix per group, ``[G, out, in]`` (G = 1 without experts)."""
        if coefficients is None:
            return self.weight.unsqueeze(0)
        summed = coefficients @ self.weights.flatten(1)
        return summed.view(-1, *self.weights.shape[1:])


def grouped_linear(
    inputs: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    bias: torch.Tensor | None,
    runs: list[Run],
) -> torch.Tensor:
    """Apply each run's weights to its rows, and sum over the inputs.

    Args:
        inputs: Tensors ``[E, ..., in]``.
        weights: For each input, ``[G, out, in]``.
        bias: ``[out]`` shared by all groups, or None.
        runs: Cover all rows in order.

    Returns:
        ``[E, ..., out]``.
    """
    if len(runs) <= 1:
        group = runs[0].group if runs else 0
        return _sum_of_linears(inputs, [w[group] for w in weights], bias)
    lengths = [run.stop - run.start for run in runs]
    pieces = zip(*(torch.split(x, lengths) for x in inputs), strict=True)
    return torch.cat(
        [
            _sum_of_linears(piece, [w[run.group] for w in weights], bias)
            for piece, run in zip(pieces, runs, strict=True)
        ]
    )


def _sum_of_linears(
    inputs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], bias: torch.Tensor | None
) -> torch.Tensor:
    total = functional.linear(inputs[0], weights[0], bias)
    for x, weight in zip(inputs[1:], weights[1:], strict=True):
        # In place: the sum is the only holder of this tensor, and its value is never saved.
        # Autocast does not convert what is computed in place.
        total = total.addmm_(x.to(total.dtype), weight.T.to(total.dtype))
    return total


def expert_router(in_features: int, num_experts: int) -> nn.Sequential:
    """Return the network from a system's embedding to one logit per expert."""
    hidden = 2 * num_experts
    return nn.Sequential(
        linear(in_features, hidden),
        nn.SiLU(),
        linear(hidden, hidden, gain=AFTER_SILU),
        nn.SiLU(),
        linear(hidden, num_experts, gain=AFTER_SILU),
        nn.SiLU(),
    )


def expert_coefficients(logits: torch.Tensor, norm: str = "softmax") -> torch.Tensor:
    """Turn one logit per expert into its coefficient.

    Args:
        logits: ``[G, X]``.
        norm: ``"softmax"``: ``softmax(logits) + 0.005`` (the sum is not renormalized). ``"pnorm"``:
            ``|logits| + 2`` over their sum; the published code adds 2 over the number of systems
            in the batch instead, which is the same for single systems.

    Raises:
        UnknownNameError: If ``norm`` is not known.
    """
    if known_norm(norm) == "softmax":
        return torch.softmax(logits, dim=-1) + _COEFFICIENT_FLOOR
    return nn.functional.normalize(logits.abs() + _PNORM_SHIFT, p=1.0, dim=-1)


def known_norm(norm: str) -> str:
    """Return ``norm`` if it is among :data:`COEFFICIENT_NORMS`.

    Raises:
        UnknownNameError: Otherwise.
    """
    if norm not in COEFFICIENT_NORMS:
        raise unknown_name("expert_coefficient_norm", norm, COEFFICIENT_NORMS)
    return norm


def group_systems(keys: torch.Tensor) -> tuple[list[int], list[int]]:
    """Find systems with equal keys.

    Args:
        keys: ``[B, k]`` integers.

    Returns:
        The group of each system (numbered by first appearance), and the first system of each
        group.
    """
    numbers: dict[tuple[int, ...], int] = {}
    first: list[int] = []
    groups = []
    for system, key in enumerate(map(tuple, keys.tolist())):
        if key not in numbers:
            numbers[key] = len(first)
            first.append(system)
        groups.append(numbers[key])
    return groups, first


def runs_of(groups: list[int], counts: list[int]) -> list[Run]:
    """Join neighboring systems of one group into runs of rows.

    Args:
        groups: Group of each system.
        counts: Rows of each system.
    """
    runs: list[Run] = []
    start = 0
    for group, count in zip(groups, counts, strict=True):
        if not count:
            continue
        if runs and runs[-1].group == group:
            runs[-1] = Run(group, runs[-1].start, start + count)
        else:
            runs.append(Run(group, start, start + count))
        start += count
    return runs
