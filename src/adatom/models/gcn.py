"""The graph convolutional network, with edge weights that depend on distances.

Kipf and Welling, "Semi-supervised classification with graph convolutional networks", ICLR 2017
(arXiv:1609.02907), eq. 2: ``H' = act(D^(-1/2) (A + 1) D^(-1/2) H W)``. Here ``A_ij`` is the cutoff
envelope ``f(d_ij)`` instead of 0 or 1, so that ``D_ii = 1 + sum_j f(d_ij)`` changes smoothly as
neighbors come and go, and each channel c of a neighbor is weighted by a trained function of the
distance, ``g_c(d)``, that is linear in Gaussians (``g_c = 1`` for the atom itself):

``h_i' = act(W (h_i / D_ii + sum_j f(d_ij) g(d_ij) * h_j / sqrt(D_ii D_jj)) + b)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import nn

from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Backbone, Head, Neighborhood, NodeFeatures
from adatom.nn.activations import activation as make_activation
from adatom.nn.elements import ElementEmbedding
from adatom.nn.initialization import AFTER_SILU, fill_normal, linear
from adatom.nn.radial import BASIS_SQUARE, gaussian_basis, polynomial_envelope
from adatom.nn.segments import segment_sum

#: Initial size of the functions of the distance. At 1, the energy changes so little with the
#: distances that a training learns the energies first and the forces hundreds of steps later.
_STRENGTH = 3.0


class GraphConvModel(Backbone):
    """Graph convolutions with symmetric normalization; the simplest network of the zoo.

    Its channels go from ``atom_embedding_dim`` to ``out_dim`` in equal steps. Layer 0 of ``edges``
    gives the degrees, block k uses ``edges[k + 1]``. It does not know charge, spin and dataset.

    The network of this name in the Open Catalyst code appends the raw coordinates of each atom to
    its features. That is not offered: the energy of a structure would change as it is moved or
    turned as a whole or an atom is replaced by a periodic image, forces would not sum to zero, and
    there would be no stress.

    Args:
        cutoff: In angstrom.
        atom_embedding_dim: Channels of the element embedding.
        out_dim: C, channels of the features.
        num_blocks: Number of graph convolutions.
        num_fc_layers: Linear layers of a block: that of the convolution and those after it.
        activation: See :func:`adatom.nn.activations.activation`.
        readout: Whether a system's energy is the ``"sum"`` or the ``"mean"`` over its atoms. With
            ``"mean"`` forces are not derivatives of the energy, see ``EnergyHead``.
        num_radial: Number of Gaussians of the distance, at least 2.
        max_neighbors: Limit used when the neighbor list is built, or None.
        max_num_elements: Atomic numbers must be below this.

    Raises:
        ConfigError: If a number is out of range, or the activation has a kink.
        UnknownNameError: If the activation is not known.
    """

    def __init__(
        self,
        cutoff: float = 6.0,
        atom_embedding_dim: int = 128,
        out_dim: int = 32,
        num_blocks: int = 3,
        num_fc_layers: int = 3,
        activation: str = "torch.nn.SiLU",
        readout: Literal["sum", "mean"] = "sum",
        *,
        num_radial: int = 32,
        max_neighbors: int | None = None,
        max_num_elements: int = 100,
    ) -> None:
        super().__init__()
        if min(atom_embedding_dim, out_dim, num_blocks, num_fc_layers) < 1 or num_radial < 2:
            raise ConfigError(
                f"GraphConvModel with atom_embedding_dim {atom_embedding_dim}, out_dim {out_dim}, "
                f"num_blocks {num_blocks}, num_fc_layers {num_fc_layers}, num_radial {num_radial}",
                expected="numbers from 1, and num_radial from 2",
            )
        self.cutoff = cutoff
        self.max_neighbors = max_neighbors
        self.max_num_elements = max_num_elements
        self.num_message_layers = num_blocks + 1
        self.num_channels = out_dim
        self.reflection_invariant = True
        self.exchanges = True
        self.num_radial = num_radial
        self.readout = readout
        self.embedding = ElementEmbedding(max_num_elements, atom_embedding_dim)
        widths = np.linspace(atom_embedding_dim, out_dim, num_blocks + 1).round().astype(int)
        self.blocks = nn.ModuleList(
            GraphConvBlock(before, after, num_radial, num_fc_layers, activation)
            for before, after in pairwise(widths.tolist())
        )

    def default_head(self) -> Head:
        """Return one linear layer, summed or averaged over the atoms."""
        from adatom.models.energy_head import EnergyHead

        return EnergyHead(self.num_channels, None, reduce=self.readout)

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        """Compute node features; see the base class.

        Raises:
            DataError: If an element is not below ``max_num_elements``.
        """
        features = self.embedding(data.atomic_numbers)
        envelope = polynomial_envelope(edges[0].vectors.norm(dim=1), self.cutoff)
        degrees = 1 + segment_sum(envelope, edges[0].target, data.num_atoms)
        weights, basis = self._of_distances(edges[1], degrees)
        for k, block in enumerate(self.blocks, start=1):
            if k > 1 and edges[k] is not edges[k - 1]:
                weights, basis = self._of_distances(edges[k], degrees)
            features = block(features, edges[k], degrees, weights, basis)
        return NodeFeatures(features)

    def _of_distances(
        self, edges: Neighborhood, degrees: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the normalized envelopes ``[E, 1]`` and the Gaussians ``[E, K]``."""
        distances = edges.vectors.norm(dim=1)
        norms = torch.rsqrt(edges.extended(degrees)[edges.source] * degrees[edges.target])
        weights = polynomial_envelope(distances, self.cutoff) * norms
        return weights.unsqueeze(1), gaussian_basis(distances, self.cutoff, self.num_radial)


class GraphConvBlock(nn.Module):
    """One graph convolution and linear layers, each followed by the activation.

    Args:
        before: Channels of the input.
        after: Channels of the output, C.
        num_radial: K, Gaussians of the distance.
        num_layers: Linear layers, that of the convolution included.
        activation: See :func:`adatom.nn.activations.activation`.
    """

    def __init__(
        self, before: int, after: int, num_radial: int, num_layers: int, activation: str
    ) -> None:
        super().__init__()
        self.radial = linear(num_radial, before, bias=False)
        fill_normal(self.radial.weight, BASIS_SQUARE, _STRENGTH)
        layers = [linear(before, after), make_activation(activation)]
        for _ in range(num_layers - 1):
            layers += [linear(after, after, gain=AFTER_SILU), make_activation(activation)]
        self.layers = nn.Sequential(*layers)

    def forward(
        self,
        features: torch.Tensor,
        edges: Neighborhood,
        degrees: torch.Tensor,
        weights: torch.Tensor,
        basis: torch.Tensor,
    ) -> torch.Tensor:
        """Return ``[N, C]``, of the atoms that :meth:`Neighborhood.kept` keeps.

        Args:
            features: ``[N, before]``.
            edges: The edges to sum over.
            degrees: ``[N]``, sums of envelopes and 1 for the atom itself.
            weights: ``[E, 1]``, envelopes over the roots of both degrees.
            basis: ``[E, K]``, Gaussians of the distance.
        """
        messages = self.radial(basis) * edges.extended(features)[edges.source] * weights
        own = edges.kept(features) / edges.kept(degrees).unsqueeze(1)
        mixed: torch.Tensor = own + segment_sum(messages, edges.target, own.shape[0])
        found: torch.Tensor = self.layers(mixed)
        return found
