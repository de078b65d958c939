"""The E(n)-equivariant graph network, for molecules and periodic systems.

Satorras, Hoogeboom, Welling, "E(n) equivariant graph neural networks", ICML 2021
(arXiv:2102.09844), eqs. 3-6 and 8. With ``e_ij = x_j - x_i`` and the cutoff envelope ``f_ij``,
which makes everything smooth as neighbors come and go:

| | |
|---|---|
| message | ``m_ij = phi_e(h_i, h_j, e_ij^2)`` |
| coordinates | ``x_i' = x_i - sum_j f_ij e_ij phi_x(m_ij) / (1 + sum_j f_ij)`` |
| features | ``h_i' = h_i + phi_h(h_i, sum_j a_ij m_ij)``, where ``a_ij = f_ij`` without attention |

An atom's coordinates in layer k are its position and a displacement ``u_i`` that all its periodic
images share. So ``e_ij = v_ij + u_j - u_i`` with ``v_ij`` the vector of the edge in the structure,
and nothing depends on which image of an atom is meant. ``f_ij`` depends on ``v_ij``, as the list of
edges does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import nn

from adatom.core.errors import ConfigError, unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Backbone, Head, Neighborhood, NodeFeatures
from adatom.nn.activations import activation as make_activation
from adatom.nn.elements import ElementEmbedding
from adatom.nn.initialization import AFTER_SILU, fill_normal, linear
from adatom.nn.radial import BASIS_SQUARE, gaussian_basis, polynomial_envelope
from adatom.nn.segments import segment_sum

#: The choices of ``attention``.
ATTENTIONS = ("none", "sigmoid", "softmax")

#: Initial size of what moves the coordinates, so that layers start from nearly the true geometry.
_SMALL = 1e-3
#: Initial size of what messages know of distances. At that of what they know of the elements, the
#: energy changes so little with the distances that forces are learned hundreds of steps later.
_STRENGTH = 2.0
#: Messages whose sum the first weights of ``phi_h`` are made for.
_TYPICAL_NEIGHBORS = 16
#: Added to squared lengths before the root, in angstrom^2: displaced atoms may meet.
_TINY = 1e-12


class EGNN(Backbone):
    """Messages of scalars along edges, and coordinates that follow them.

    It does not know charge, spin and dataset. Block k uses ``edges[k]``; the last block moves no
    coordinates, since nothing would see it.

    Args:
        cutoff: In angstrom.
        hidden_dim: C, channels of atoms and of the hidden layers.
        message_dim: Channels of messages; None is ``hidden_dim``.
        num_layers: Number of blocks.
        num_radial: Gaussians of the length of ``e_ij`` that ``phi_e`` gets beside its square; 0 for
            the network of the paper.
        activation: See :func:`adatom.nn.activations.activation`.
        update_coordinates: Whether coordinates follow the messages.
        normalize: Divide ``e_ij`` by its length plus 1 angstrom where it moves the coordinates.
        tanh: Bound ``phi_x`` by the hyperbolic tangent.
        attention: ``"none"``; ``"sigmoid"``: ``a_ij = f_ij sigmoid(s_ij)`` with ``s`` linear in the
            message (eq. 8); ``"softmax"``: ``a_ij = f_ij exp(s_ij) / (1 + sum_k f_ik exp(s_ik))``
            over the neighbors of each atom.
        readout: Whether a system's energy is the ``"sum"`` or the ``"mean"`` over its atoms. With
            ``"mean"`` forces are not derivatives of the energy, see ``EnergyHead``.
        max_neighbors: Limit used when the neighbor list is built, or None.
        max_num_elements: Atomic numbers must be below this.

    Raises:
        ConfigError: If a number is out of range, or the activation has a kink.
        UnknownNameError: If the activation or ``attention`` is not known.
    """

    def __init__(
        self,
        cutoff: float = 6.0,
        hidden_dim: int = 64,
        message_dim: int | None = None,
        num_layers: int = 4,
        num_radial: int = 32,
        activation: str = "torch.nn.SiLU",
        *,
        update_coordinates: bool = True,
        normalize: bool = True,
        tanh: bool = True,
        attention: Literal["none", "sigmoid", "softmax"] = "none",
        readout: Literal["sum", "mean"] = "sum",
        max_neighbors: int | None = None,
        max_num_elements: int = 100,
    ) -> None:
        super().__init__()
        messages = hidden_dim if message_dim is None else message_dim
        if min(hidden_dim, messages, num_layers) < 1 or num_radial < 0 or num_radial == 1:
            raise ConfigError(
                f"EGNN with hidden_dim {hidden_dim}, message_dim {message_dim}, "
                f"num_layers {num_layers}, num_radial {num_radial}",
                expected="numbers from 1, and num_radial 0 or from 2",
            )
        if attention not in ATTENTIONS:
            raise unknown_name("attention", attention, ATTENTIONS)
        self.cutoff = cutoff
        self.max_neighbors = max_neighbors
        self.max_num_elements = max_num_elements
        self.num_message_layers = num_layers
        self.num_channels = hidden_dim
        self.reflection_invariant = True
        self.exchanges = True
        self.readout = readout
        self.embedding = ElementEmbedding(max_num_elements, hidden_dim)
        moves = [update_coordinates and k + 1 < num_layers for k in range(num_layers)]
        self.blocks = nn.ModuleList(
            EquivariantBlock(
                hidden_dim, messages, num_radial, cutoff, activation, attention,
                moves=each, normalize=normalize, tanh=tanh,
            )
            for each in moves
        )  # fmt: skip

    def default_head(self) -> Head:
        """Return a network of three layers, summed or averaged over the atoms."""
        from adatom.models.energy_head import EnergyHead

        return EnergyHead(self.num_channels, self.num_channels, reduce=self.readout)

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        """Compute node features; see the base class.

        Raises:
            DataError: If an element is not below ``max_num_elements``.
        """
        features = self.embedding(data.atomic_numbers)
        displacements = edges[0].vectors.new_zeros((data.num_atoms, 3))
        envelope = self._envelope(edges[0])
        for k, block in enumerate(self.blocks):
            if k and edges[k] is not edges[k - 1]:
                envelope = self._envelope(edges[k])
            features, displacements = block(features, displacements, edges[k], envelope)
        return NodeFeatures(features)

    def _envelope(self, edges: Neighborhood) -> torch.Tensor:
        return polynomial_envelope(edges.vectors.norm(dim=1), self.cutoff).unsqueeze(1)


class EquivariantBlock(nn.Module):
    """One layer: messages, then coordinates and features of the atoms.

    Args:
        channels: C of the atoms.
        messages: M, channels of messages.
        num_radial: Gaussians of the distance.
        cutoff: In angstrom, the unit of the squared distance and the last Gaussian's center.
        activation: See :func:`adatom.nn.activations.activation`.
        attention: Among :data:`ATTENTIONS`.
        moves: Whether coordinates are moved.
        normalize: See :class:`EGNN`.
        tanh: See :class:`EGNN`.
    """

    def __init__(
        self,
        channels: int,
        messages: int,
        num_radial: int,
        cutoff: float,
        activation: str,
        attention: str,
        *,
        moves: bool,
        normalize: bool,
        tanh: bool,
    ) -> None:
        super().__init__()
        self.num_radial, self.cutoff, self.normalize = num_radial, cutoff, normalize
        # The first layer of phi_e in three parts: those on atoms are applied before the gathering.
        self.of_target = linear(channels, channels, gain=3**-0.5)
        self.of_source = linear(channels, channels, bias=False, gain=3**-0.5)
        self.of_distance = linear(1 + num_radial, channels, bias=False)
        fill_normal(self.of_distance.weight, BASIS_SQUARE if num_radial else 1.0, _STRENGTH)
        self.edge = nn.Sequential(
            make_activation(activation),
            linear(channels, messages, gain=AFTER_SILU),
            make_activation(activation),
        )
        self.node = nn.Sequential(
            linear(channels + messages, channels),
            make_activation(activation),
            linear(channels, channels, gain=AFTER_SILU),
        )
        first = cast("nn.Linear", self.node[0])
        fill_normal(first.weight[:, :channels], 2 * channels)
        fill_normal(first.weight[:, channels:], 2 * messages * _TYPICAL_NEIGHBORS)
        self.score = None if attention == "none" else linear(messages, 1)
        self.softmax = attention == "softmax"
        self.move: nn.Sequential | None = None
        if moves:
            self.move = nn.Sequential(
                linear(messages, channels, gain=AFTER_SILU),
                make_activation(activation),
                linear(channels, 1, bias=False, gain=_SMALL),
                nn.Tanh() if tanh else nn.Identity(),
            )

    def forward(
        self,
        features: torch.Tensor,
        displacements: torch.Tensor,
        edges: Neighborhood,
        envelope: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features and displacements of the next layer.

        Args:
            features: ``[N, C]``.
            displacements: ``[N, 3]`` angstrom, from the positions of the structure.
            edges: The edges to sum over.
            envelope: ``[E, 1]``.
        """
        moved = edges.extended(displacements)[edges.source]
        vectors = edges.vectors + moved - displacements[edges.target]
        squares = vectors.square().sum(1, keepdim=True)
        lengths = (squares + _TINY).sqrt()
        of_source = edges.extended(self.of_source(features))
        hidden = self.of_target(features)[edges.target] + of_source[edges.source]
        messages = self.edge(hidden + self.of_distance(self._distances(squares, lengths)))
        features, displacements = edges.kept(features), edges.kept(displacements)
        count = features.shape[0]
        if self.move is not None:
            steps = vectors / (lengths + 1.0) if self.normalize else vectors
            pull = segment_sum(envelope * self.move(messages) * steps, edges.target, count)
            degrees = 1.0 + segment_sum(envelope, edges.target, count)
            displacements = displacements - pull / degrees
        weighted = self._attention(messages, edges.target, envelope, count) * messages
        gathered = segment_sum(weighted, edges.target, count)
        return features + self.node(torch.cat([features, gathered], dim=1)), displacements

    def _distances(self, squares: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return what the messages know of the distances, ``[E, 1 + num_radial]``."""
        scaled = squares / self.cutoff**2
        if not self.num_radial:
            return scaled
        basis = gaussian_basis(lengths.squeeze(1), self.cutoff, self.num_radial)
        return torch.cat([scaled, basis], dim=1)

    def _attention(
        self, messages: torch.Tensor, target: torch.Tensor, envelope: torch.Tensor, count: int
    ) -> torch.Tensor:
        """Return the weight of each message, ``[E, 1]``."""
        if self.score is None:
            return envelope
        scores = self.score(messages)
        if not self.softmax:
            return envelope * torch.sigmoid(scores)
        # Shifted by the largest score of each atom, or 0, which changes rounding only.
        highest = scores.new_zeros(count).scatter_reduce(0, target, scores.detach()[:, 0], "amax")
        factors = envelope * torch.exp(scores - highest[target].unsqueeze(1))
        total = torch.exp(-highest).unsqueeze(1) + segment_sum(factors, target, count)
        return factors / total[target]
