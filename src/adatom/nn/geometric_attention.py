"""Attention over tuples of neighbors, through the geometric algebra.

Spellings, "Geometric algebra attention networks for small point clouds", arXiv 2110.02393. Each
atom sees a cloud of points: itself (at the origin) and its neighbors. Point e has a multivector R_e
and features V_e. For a tuple (e, e') of the same cloud:

    q = invariants of R_e R_e' (and of R_e, R_e', see ``invariant_mode``)
    y = join(network(q), merge(V_e, V_e'));  (s, c) = network(y)
    w = f_e' exp(s) / sum over e' of f_e' exp(s)
    V_e <- sum of w y;       R_e <- sum of w c (a_1 R_e + a_2 R_e R_e')

What differs from the paper: f is an envelope that vanishes at the cutoff with two derivatives, so
that a point that leaves takes no part in any sum before it is gone; it is 1 for the atom itself, so
that no sum is ever empty. Scores are bounded by ``B tanh(s / B)``, so that the exponential can
neither overflow nor vanish, without a maximum over each cloud. Score s and scale c come from one
network, because its cost is per tuple.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from adatom.core.errors import ConfigError, unknown_name
from adatom.nn.activations import activation as activation_of
from adatom.nn.geometric_algebra import geometric_product, invariants, products_of_pairs
from adatom.nn.initialization import AFTER_SILU, linear

#: The choices of ``merge_fun`` and ``join_fun``.
COMBINATIONS = ("mean", "concat")
#: The choices of ``invariant_mode``.
INVARIANT_MODES = ("single", "partial", "full")
#: B; one score can outweigh another by exp(2 B).
_LARGEST_SCORE = 8.0


@dataclass(slots=True, frozen=True)
class Clouds:
    """C clouds of at most n points each; R, V and f of the points.

    Attributes:
        multivectors: ``[C, n, 8]``.
        features: ``[C, n, H]``.
        envelope: ``[C, n]``; 0 where a cloud has fewer points, not 0 everywhere.
    """

    multivectors: torch.Tensor
    features: torch.Tensor
    envelope: torch.Tensor


@dataclass(slots=True, frozen=True)
class AttentionOptions:
    """How a tuple is turned into a value.

    Attributes:
        channels: H, of features and values.
        width: Of the hidden layer of the networks.
        rank: Points in a tuple, 1 or 2.
        merge: How the features of the points are combined, ``mean`` or ``concat`` (a sum of
            learned linear maps).
        join: How this is combined with the value of the invariants, ``mean`` or ``concat``.
        invariant_mode: Invariants of the whole product (``single``), of the first point as well
            (``partial``), or of each point and the product (``full``); the same for rank 1.
        activation: See :func:`adatom.nn.activations.activation`.
        mirror: See :func:`adatom.nn.geometric_algebra.invariants`.
    """

    channels: int
    width: int
    rank: Literal[1, 2] = 2
    merge: str = "mean"
    join: str = "mean"
    invariant_mode: str = "full"
    activation: str = "silu"
    mirror: bool = True

    def __post_init__(self) -> None:
        """Refuse what is not among the choices.

        Raises:
            ConfigError: If the rank is neither 1 nor 2.
            UnknownNameError: If a name is not known.
        """
        if self.rank not in (1, 2):
            raise ConfigError(
                f"The rank of the attention is {self.rank}",
                expected="1 (single neighbors) or 2 (pairs of neighbors)",
            )
        for option, value in (("merge_fun", self.merge), ("join_fun", self.join)):
            if value not in COMBINATIONS:
                raise unknown_name(option, value, COMBINATIONS)
        if self.invariant_mode not in INVARIANT_MODES:
            raise unknown_name("invariant_mode", self.invariant_mode, INVARIANT_MODES)

    @property
    def num_multivectors(self) -> int:
        """Multivectors whose invariants are taken, per tuple."""
        if self.rank == 1:
            return 1
        return {"single": 1, "partial": 2, "full": 3}[self.invariant_mode]

    def network(self, inputs: int, outputs: int) -> nn.Sequential:
        """Return Linear, activation, Linear, which keep the variance of their input at first."""
        return nn.Sequential(
            linear(inputs, self.width),
            activation_of(self.activation),
            linear(self.width, outputs, gain=AFTER_SILU),
        )


class Combination(nn.Module):
    """Mean of several features, or the sum of a learned linear map of each.

    Args:
        parts: n, how many.
        channels: H.
        kind: ``mean`` or ``concat``.
    """

    def __init__(self, parts: int, channels: int, kind: str) -> None:
        super().__init__()
        self.share = 1.0 / parts
        self.maps = nn.ModuleList()
        if kind == "concat":
            for _ in range(parts):
                layer = nn.Linear(channels, channels, bias=False)
                nn.init.normal_(layer.weight, std=(2.0 / (parts * channels)) ** 0.5)
                self.maps.append(layer)

    def part(self, index: int, features: torch.Tensor) -> torch.Tensor:
        """Return what part ``index`` adds to the combination; ``[..., H]`` to ``[..., H]``."""
        if not self.maps:
            return features * self.share
        mapped: torch.Tensor = self.maps[index](features)
        return mapped


class TupleValues(nn.Module):
    """The values y of all tuples.

    Args:
        options: See there.
    """

    def __init__(self, options: AttentionOptions) -> None:
        super().__init__()
        self.options = options
        self.values = options.network(4 * options.num_multivectors, options.channels)
        self.merge = Combination(options.rank, options.channels, options.merge)
        self.join = Combination(2, options.channels, options.join)

    def forward(self, clouds: Clouds) -> torch.Tensor:
        """Return ``[C, n, H]`` for single points, or ``[C, n, n, H]`` for pairs."""
        # What depends on one point only is computed per point, of which there are fewer.
        own = self.join.part(1, self.merge.part(0, clouds.features))
        value = self.join.part(0, self.values(self._invariants(clouds.multivectors)))
        if self.options.rank == 1:
            return value + own
        other = self.join.part(1, self.merge.part(1, clouds.features))
        return value + own.unsqueeze(2) + other.unsqueeze(1)

    def _invariants(self, points: torch.Tensor) -> torch.Tensor:
        """Return q of all tuples, ``[C, n, 4]`` or ``[C, n, n, 4 k]``."""
        mirror = self.options.mirror
        if self.options.rank == 1:
            return invariants(points, mirror=mirror)
        products = products_of_pairs(points, points)
        parts = [invariants(products, mirror=mirror)]
        shape = (*products.shape[:3], 4)
        own = invariants(points, mirror=mirror)
        if self.options.invariant_mode != "single":
            parts.append(own.unsqueeze(2).expand(shape))
        if self.options.invariant_mode == "full":
            parts.append(own.unsqueeze(1).expand(shape))
        return torch.cat(parts, dim=-1)


class FeatureAttention(nn.Module):
    """New features of points, or of whole clouds.

    Args:
        options: See there.
        reduce: Sum over all tuples of a cloud, instead of those that start with each point.
    """

    def __init__(self, options: AttentionOptions, *, reduce: bool) -> None:
        super().__init__()
        self.reduce = reduce
        self.tuples = TupleValues(options)
        # A sum over the other members of a tuple of one is that one.
        self.scores = options.network(options.channels, 1) if reduce or options.rank > 1 else None

    def forward(self, clouds: Clouds) -> torch.Tensor:
        """Return ``[C, n, H]``, or ``[C, H]`` if reduced."""
        values: torch.Tensor = self.tuples(clouds)
        if self.scores is None:
            return values
        envelope = clouds.envelope
        if values.dim() == 4:
            envelope = envelope.unsqueeze(1)
            if self.reduce:
                envelope = (envelope * clouds.envelope.unsqueeze(2)).flatten(1)
                values = values.flatten(1, 2)
        weights = _weights(self.scores(values).squeeze(-1), envelope)
        return torch.matmul(weights.unsqueeze(-2), values).squeeze(-2)


class MultivectorAttention(nn.Module):
    """New multivectors of points, which turn with the cloud.

    Args:
        options: See there.
    """

    def __init__(self, options: AttentionOptions) -> None:
        super().__init__()
        self.tuples = TupleValues(options)
        self.scores = options.network(options.channels, options.rank)
        self.mix = nn.Parameter(torch.full((options.rank,), options.rank**-0.5))

    def forward(self, clouds: Clouds) -> torch.Tensor:
        """Return ``[C, n, 8]``."""
        points = clouds.multivectors
        scores: torch.Tensor = self.scores(self.tuples(clouds))
        if len(self.mix) == 1:
            return self.mix * scores * points
        weights = _weights(scores[..., 0], clouds.envelope.unsqueeze(1)) * scores[..., 1]
        # The product is linear: R_e is multiplied once with the sum over e', not in each term.
        single = self.mix[0] * weights.sum(-1, keepdim=True) * points
        return single + self.mix[1] * geometric_product(points, torch.matmul(weights, points))


def _weights(scores: torch.Tensor, envelope: torch.Tensor) -> torch.Tensor:
    """Return ``f exp(B tanh(s / B))`` over its sum along the last dimension."""
    bounded = _LARGEST_SCORE * torch.tanh(scores / _LARGEST_SCORE)
    weights = envelope * bounded.exp()
    return weights / weights.sum(-1, keepdim=True)
