"""GAANet: attention over neighborhoods through the geometric algebra.

Spellings, "Geometric algebra attention networks for small point clouds", arXiv 2110.02393. Each
atom i sees a cloud of points: itself at the origin, and its neighbors j at r_ij. With
``R_ij = multivector(r_ij)`` and ``V_ij = Linear([v_i + v_j | v_j - v_i])`` of element embeddings v,
each round is (see :mod:`adatom.nn.geometric_attention`)

    R <- attention of multivectors(R, V), normalized, + R_0 (+ R)
    V <- attention of features(R, V), MLP, (+ V), normalized

and the last round sums each cloud into one row of features. The cost of rank 2 grows with the
square of the number of neighbors, for every atom.

What differs from the paper, and why: its cloud is the whole system; here it is a neighborhood, with
weights that vanish smoothly at the cutoff, so that the energy is extensive and has two continuous
derivatives. Its momentum norms are running statistics of batches; here layer norms at the end of
each round, which do not depend on what else is in the batch or on which process it is, and no norm
inside the networks of tuples, where the size of the invariants is what is to be learned from.
Multivectors are divided by ``sqrt(1 + |R|^2)``, which is smooth at zero. The embedding of elements
is a table instead of a line through the atomic number. V_ij also sees Gaussians of the distance,
from which short distances are told apart faster than from the distance itself (``num_radial``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from adatom.core.errors import ConfigError, unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Backbone, Neighborhood, NodeFeatures
from adatom.models.energy_head import REDUCTIONS, EnergyHead
from adatom.nn.geometric_algebra import from_vectors
from adatom.nn.geometric_attention import (
    AttentionOptions,
    Clouds,
    FeatureAttention,
    MultivectorAttention,
)
from adatom.nn.neighbor_clouds import neighbor_clouds
from adatom.nn.radial import gaussian_basis, polynomial_envelope


class GAANet(Backbone):
    """Geometric algebra attention over neighborhoods (see the module's text for the equations).

    It is strictly local: an atom's energy depends on what is within one cutoff of it.

    ``merge_fun`` and ``join_fun`` are ``concat`` unless told otherwise: with ``mean`` a new network
    starts with features that hardly depend on the geometry, and learns slowly.

    Args:
        hidden_dim: H, channels of the features.
        depth: Rounds before the one that sums.
        rank: Neighbors in a tuple: 1, or 2 for pairs, whose products know angles.
        cutoff: In angstrom.
        max_neighbors: Limit used when the neighbor list is built, or None. With a limit the energy
            jumps where one neighbor takes the place of another.
        num_radial: K, Gaussians of the distance in V_ij; 0 leaves them out, as the paper does.
        dilation: Width of the hidden layers over H.
        merge_fun: How the features of a tuple's neighbors are combined: ``mean`` or ``concat``.
        join_fun: How this is combined with the value of the invariants: ``mean`` or ``concat``.
        invariant_mode: Which products' invariants are seen: ``single``, ``partial`` or ``full``.
        residual: Whether a round adds to R and V instead of replacing them.
        nonlinearities: Whether each round ends with a network on V.
        activation: See :func:`adatom.nn.activations.activation`.
        readout: Whether a system's energy is the ``sum`` or the ``mean`` over its atoms.
        reflection_invariant: Take the trivector, which changes sign in a mirror, by its size, so
            that mirror images have the same energy, as they have in nature. False takes it with its
            sign, as the paper does.
        max_num_elements: Atomic numbers must be below this.

    Raises:
        ConfigError: If a number is out of range.
        UnknownNameError: If a name is not known.
    """

    def __init__(
        self,
        hidden_dim: int = 32,
        depth: int = 2,
        rank: Literal[1, 2] = 2,
        cutoff: float = 5.0,
        max_neighbors: int | None = None,
        num_radial: int = 16,
        dilation: float = 2.0,
        merge_fun: str = "concat",
        join_fun: str = "concat",
        invariant_mode: str = "full",
        residual: bool = True,
        nonlinearities: bool = True,
        activation: str = "silu",
        readout: Literal["sum", "mean"] = "sum",
        reflection_invariant: bool = True,
        max_num_elements: int = 100,
    ) -> None:
        super().__init__()
        _check_sizes(
            hidden_dim=(hidden_dim, 1),
            depth=(depth, 0),
            num_radial=(num_radial, 0),
            max_num_elements=(max_num_elements, 1),
        )
        if not cutoff > 0:
            raise ConfigError(f"The cutoff is {cutoff}", expected="a positive length in angstrom")
        if num_radial == 1:
            raise ConfigError("num_radial is 1", expected="0 (no radial basis) or at least 2")
        if not dilation > 0:
            raise ConfigError(f"The dilation is {dilation}", expected="a positive number")
        if readout not in REDUCTIONS:
            raise unknown_name("readout", readout, REDUCTIONS)
        self.cutoff = float(cutoff)
        self.max_neighbors = max_neighbors
        self.num_message_layers = 1
        self.num_channels = hidden_dim
        self.max_num_elements = max_num_elements
        self.reflection_invariant = reflection_invariant
        self.exchanges = True
        self.readout: Literal["sum", "mean"] = readout
        self.options = AttentionOptions(
            hidden_dim,
            max(1, round(dilation * hidden_dim)),
            rank,
            merge_fun,
            join_fun,
            invariant_mode,
            activation,
            reflection_invariant,
        )
        self.element = nn.Embedding(max_num_elements, hidden_dim)
        self.num_radial = num_radial
        self.pair: nn.Module = nn.Linear(2 * hidden_dim, hidden_dim)
        if num_radial:
            self.pair = self.options.network(2 * hidden_dim + num_radial, hidden_dim)
        rounds = [
            Round(self.options, residual=residual, nonlinear=nonlinearities, last=k == depth)
            for k in range(depth + 1)
        ]
        self.rounds = nn.ModuleList(rounds)
        self.final = self.options.network(hidden_dim, hidden_dim)

    def default_head(self) -> EnergyHead:
        """Return the paper's: one linear layer, and the sum (or mean) over the atoms."""
        return EnergyHead(self.num_channels, None, reduce=self.readout)

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        """Compute ``[N, H]`` scalars; see the base class."""
        numbers = edges[0].extended(data.atomic_numbers)
        points = self._points(self.element(numbers), edges[0], data.num_atoms)
        features = points[1].new_zeros(data.num_atoms, self.num_channels)
        for atoms, table in neighbor_clouds(edges[0].target, data.num_atoms):
            features = features.index_copy(0, atoms, self._rounds(points, table))
        return NodeFeatures(self.final(features))

    def _points(
        self, elements: torch.Tensor, near: Neighborhood, count: int
    ) -> tuple[torch.Tensor, ...]:
        """Return vectors ``[P, 3]``, features ``[P, H]`` and envelope ``[P]`` of all points.

        They are the edges, the ``count`` atoms themselves, and one point outside of all clouds.
        """
        distances = near.vectors.norm(dim=1)
        origins = near.vectors.new_zeros(count + 1, 3)
        # In units of half the cutoff, lengths are of order one.
        vectors = torch.cat([near.vectors, origins]) * (2 / self.cutoff)
        own = torch.cat([elements.index_select(0, near.target), elements[:count]])
        other = torch.cat([elements.index_select(0, near.source), elements[:count]])
        seen = [own + other, other - own]
        if self.num_radial:
            lengths = torch.cat([distances, distances.new_zeros(count)])
            seen.append(gaussian_basis(lengths, self.cutoff, self.num_radial))
        features = self.pair(torch.cat(seen, dim=1))
        envelope = polynomial_envelope(distances, self.cutoff)
        return (
            vectors,
            torch.cat([features, features.new_zeros(1, self.num_channels)]),
            torch.cat([envelope, envelope.new_ones(count), envelope.new_zeros(1)]),
        )

    def _rounds(self, points: tuple[torch.Tensor, ...], table: torch.Tensor) -> torch.Tensor:
        """Return features ``[C, H]`` of the clouds of one table ``[C, n]``."""
        vectors, features, envelope = (
            rows.index_select(0, table.flatten()).unflatten(0, table.shape) for rows in points
        )
        start = from_vectors(vectors)
        clouds = Clouds(start, features, envelope)
        for layer in self.rounds:
            clouds = layer(clouds, start)
        return clouds.features


class Round(nn.Module):
    """One round: new multivectors, then new features.

    Args:
        options: Of the attention.
        residual: Add to what was there.
        nonlinear: End with a network on the features.
        last: Sum the features of each cloud.
    """

    def __init__(
        self, options: AttentionOptions, *, residual: bool, nonlinear: bool, last: bool
    ) -> None:
        super().__init__()
        self.residual = residual
        self.last = last
        self.turn = MultivectorAttention(options)
        self.attend = FeatureAttention(options, reduce=last)
        channels = options.channels
        self.network = options.network(channels, channels) if nonlinear else nn.Identity()
        self.norm = nn.LayerNorm(channels)

    def forward(self, clouds: Clouds, start: torch.Tensor) -> Clouds:
        """Return the clouds with new R and V; V of the last round is ``[C, H]``.

        Args:
            clouds: R, V and envelope.
            start: ``[C, n, 8]``, R_0.
        """
        turned = self.turn(clouds)
        turned = turned * (1 + turned.square().sum(-1, keepdim=True)).rsqrt() + start
        if self.residual:
            turned = turned + clouds.multivectors
        clouds = replace(clouds, multivectors=turned)
        attended = self.network(self.attend(clouds))
        if self.residual and not self.last:
            attended = attended + clouds.features
        return replace(clouds, features=self.norm(attended))


def _check_sizes(**sizes: tuple[int, int]) -> None:
    for name, (value, least) in sizes.items():
        if value < least:
            raise ConfigError(f"{name} is {value}", expected=f"at least {least}")
