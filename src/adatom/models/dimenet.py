"""DimeNet++: messages along directed edges that see distances and angles.

Gasteiger, Gross, Guennemann, "Directional message passing for molecular graphs", ICLR 2020
(arXiv:2003.03123); Gasteiger, Giri, Margraf, Guennemann, "Fast and uncertainty-aware directional
message passing for non-equilibrium molecules", 2020 (arXiv:2011.14115). With ``x = d / cutoff``,
``s`` the activation, ``*`` by channel, and ``W`` for every matrix:

| | |
|---|---|
| envelope | ``u(x) = 1/x - 28 x^5 + 48 x^6 - 21 x^7`` below 1, then 0 |
| radial basis | ``e_n = u(x) sin(w_n x)``, ``w_n`` trained, ``n pi`` at first |
| spherical basis | ``a_ln = u(x_kj) N_ln j_l(z_ln x_kj) sqrt((2l+1) / 4 pi) P_l(cos(k j i))`` |
| first messages | ``m_ji = s(W [h_j, h_i, s(W e_ji)])`` |
| angles | ``t_ji = sum over k != i of s(W (s(W m_kj) * W W e_kj)) * W W a_(kj,ji)`` |
| update | ``m_ji' = r(m_ji + s(W r(s(W t_ji) + s(W m_ji))))``, r: ``y + s(W s(W y))``, repeated |
| output | ``o_i = s(W ... s(W W sum over j of m_ji * W e_ji))``, of the first and all later ``m`` |

The energy of an atom is linear in its outputs ``o_i``. Everything that leaves an edge is multiplied
by ``u``, so energies have two continuous derivatives as neighbors come and go. The sum over k needs
no list of triplets, see ``nn/angular_sums.py``; k may be another periodic image of i.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch
from torch import nn

from adatom.core.errors import ConfigError, GraphError
from adatom.core.traced_input import traced_input
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Backbone, Head, Neighborhood, NodeFeatures
from adatom.nn.activations import activation as make_activation
from adatom.nn.angular_sums import Arrivals, Departures, angular_sums, arrivals, departures
from adatom.nn.edge_matching import EdgeEnds, find_edges
from adatom.nn.elements import ElementEmbedding
from adatom.nn.first_rows import first_rows
from adatom.nn.harmonics import spherical_harmonics
from adatom.nn.initialization import glorot_orthogonal
from adatom.nn.radial import polynomial_envelope
from adatom.nn.segments import segment_sum
from adatom.nn.spherical_bessel import spherical_bessel_basis


class DimeNetPlusPlus(Backbone):
    """Directional message passing; the defaults are those of the paper.

    It does not know charge, spin and dataset. The first outputs sum over ``edges[0]``, those of
    block k over ``edges[k + 1]``, whose messages come from ``edges[k]``. The features of an atom
    are the outputs after all blocks one after the other, ``(num_blocks + 1) * out_emb_size``.

    Time and memory grow with the number of edges, not with that of triplets: training on forces
    with the defaults takes about 0.33 MB per edge in float32, and on one core 0.3 ms.

    Args:
        cutoff: In angstrom.
        emb_size: Channels of messages.
        out_emb_size: Channels of outputs.
        int_emb_size: Channels in the sum over angles.
        basis_emb_size: Channels between the two matrices on each basis.
        num_blocks: Number of updates.
        num_spherical: Degrees of the spherical basis: l from 0 to one less.
        num_radial: Functions of the distance, of the radial basis and of each degree.
        envelope_exponent: The terms of the envelope beside ``1/x`` start with this power of x.
        num_before_skip: How often ``r`` is applied before ``m_ji`` is added.
        num_after_skip: How often it is applied after that.
        num_dense_output: Layers of each output with an activation.
        activation: See :func:`adatom.nn.activations.activation`.
        readout: Whether a system's energy is the ``"sum"`` or the ``"mean"`` over its atoms. With
            ``"mean"`` forces are not derivatives of the energy, see ``EnergyHead``.
        max_neighbors: Limit used when the neighbor list is built, or None.
        max_num_elements: Atomic numbers must be below this.

    Raises:
        ConfigError: If a number is out of range, or the activation has a kink.
        UnknownNameError: If the activation is not known.
    """

    def __init__(
        self,
        cutoff: float = 5.0,
        emb_size: int = 128,
        out_emb_size: int = 256,
        int_emb_size: int = 64,
        basis_emb_size: int = 8,
        num_blocks: int = 4,
        num_spherical: int = 7,
        num_radial: int = 6,
        envelope_exponent: int = 5,
        num_before_skip: int = 1,
        num_after_skip: int = 2,
        num_dense_output: int = 3,
        activation: str = "torch.nn.SiLU",
        *,
        readout: Literal["sum", "mean"] = "sum",
        max_neighbors: int | None = None,
        max_num_elements: int = 100,
    ) -> None:
        super().__init__()
        sizes = (emb_size, out_emb_size, int_emb_size, basis_emb_size, num_spherical, num_radial)
        counts = (num_blocks, num_before_skip, num_after_skip, num_dense_output)
        if min(sizes) < 1 or min(counts) < 0 or envelope_exponent < 2 or not cutoff > 0:
            raise ConfigError(
                f"DimeNetPlusPlus with sizes {sizes}, numbers of layers {counts}, "
                f"envelope_exponent {envelope_exponent} and cutoff {cutoff}",
                expected="sizes from 1, layers from 0, an exponent from 2 and a positive cutoff",
            )
        self.cutoff = float(cutoff)
        self.max_neighbors = max_neighbors
        self.max_num_elements = max_num_elements
        self.num_message_layers = num_blocks + 1
        self.num_channels = (num_blocks + 1) * out_emb_size
        self.reflection_invariant = True
        self.readout = readout
        self.basis = EdgeBasis(self.cutoff, num_spherical, num_radial, envelope_exponent)
        self.first = FirstMessages(emb_size, num_radial, max_num_elements, activation)
        self.blocks = nn.ModuleList(
            MessageUpdate(
                emb_size, int_emb_size, basis_emb_size, (num_spherical, num_radial),
                (num_before_skip, num_after_skip), activation,
            )
            for _ in range(num_blocks)
        )  # fmt: skip
        self.outputs = nn.ModuleList(
            AtomOutput(emb_size, out_emb_size, num_radial, num_dense_output, activation)
            for _ in range(num_blocks + 1)
        )

    def default_head(self) -> Head:
        """Return one linear layer on all outputs, summed or averaged over the atoms."""
        from adatom.models.energy_head import EnergyHead

        return EnergyHead(self.num_channels, None, reduce=self.readout)

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        """Compute node features; see the base class.

        Raises:
            GraphError: If ``edges`` has not one entry per message-passing layer, or an entry has
                an edge that the one before has not.
            DataError: If an element is not below ``max_num_elements``.
        """
        if len(edges) != self.num_message_layers:
            raise GraphError(
                f"{len(edges)} edge lists are given",
                expected=f"{self.num_message_layers}, one per message-passing layer",
            )
        graph = self.basis(edges[0], data.num_atoms)
        messages = self.first(data.atomic_numbers, graph)
        outputs = [self.outputs[0](messages, graph, edges[-1])]
        steps: EdgeSteps | None = None
        for k, (block, output) in enumerate(zip(self.blocks, self.outputs[1:], strict=True)):
            if edges[k + 1] is not edges[k]:
                steps = edge_steps(graph, self.basis(edges[k + 1], data.num_atoms))
            elif steps is None or steps.after is not steps.before:
                steps = edge_steps(graph, graph)
            messages = block(messages, steps)
            graph = steps.after
            outputs.append(output(messages, graph, edges[-1]))
        return NodeFeatures(torch.cat(outputs, dim=1))


class EdgeGraph(NamedTuple):
    """What is computed once for a list of edges.

    Attributes:
        ends: The edges.
        radial: ``[E, R]`` radial basis.
        harmonics: ``[E, L^2]`` of the direction from target to source.
        arrivals: The edges with their spherical basis, as those that sums go over.
    """

    ends: EdgeEnds
    radial: torch.Tensor
    harmonics: torch.Tensor
    arrivals: Arrivals

    @property
    def num_atoms(self) -> int:
        """N."""
        return self.arrivals.chunks.num_atoms


class EdgeSteps(NamedTuple):
    """From the edges of one layer to those of the next.

    Attributes:
        before: Edges that have messages.
        after: Edges whose messages are wanted; among ``before``.
        kept: ``[E']`` int64; where each edge of ``after`` is in ``before``, or None if the lists
            are the same.
        departures: The edges of ``after``, as those that get a sum over angles.
    """

    before: EdgeGraph
    after: EdgeGraph
    kept: torch.Tensor | None
    departures: Departures


def edge_steps(before: EdgeGraph, after: EdgeGraph) -> EdgeSteps:
    """Find out which messages of one list of edges those of the next are made of.

    Raises:
        GraphError: If an edge of ``after`` is not in ``before``.
    """
    kept = None
    if after is not before:
        kept = find_edges(after.ends, before.ends, before.num_atoms)
        if traced_input() is None and bool((kept < 0).any()):
            edge = int((kept < 0).nonzero()[0])
            raise GraphError(
                f"The edge from atom {int(after.ends.source[edge])} to atom "
                f"{int(after.ends.target[edge])} is not among those of the layer before",
                expected="nested edge lists, from the longest to the shortest",
            )
    own = departures(after.ends, after.harmonics, before.arrivals, before.ends)
    return EdgeSteps(before, after, kept, own)


class EdgeBasis(nn.Module):
    """Functions of distances and directions, all of them smooth up to the cutoff.

    Args:
        cutoff: In angstrom.
        num_spherical: L.
        num_radial: R.
        envelope_exponent: See :class:`DimeNetPlusPlus`.
    """

    def __init__(
        self, cutoff: float, num_spherical: int, num_radial: int, envelope_exponent: int
    ) -> None:
        super().__init__()
        self.cutoff, self.exponent = cutoff, envelope_exponent
        self.num_spherical, self.num_radial = num_spherical, num_radial
        self.frequencies = nn.Parameter(math.pi * torch.arange(1.0, num_radial + 1))

    def forward(self, edges: Neighborhood, num_atoms: int) -> EdgeGraph:
        """Evaluate the functions of one list of edges."""
        distances = edges.vectors.norm(dim=1)
        x = distances / self.cutoff
        envelope = polynomial_envelope(distances, self.cutoff, self.exponent + 1) / x
        radial = envelope.unsqueeze(1) * torch.sin(x.unsqueeze(1) * self.frequencies)
        directions = edges.vectors / distances.unsqueeze(1)
        harmonics = spherical_harmonics(directions, self.num_spherical - 1)
        degrees = torch.arange(self.num_spherical, dtype=x.dtype, device=x.device)
        scales = ((2 * degrees + 1) / (4 * math.pi)).sqrt()
        spherical = spherical_bessel_basis(x, self.num_spherical, self.num_radial)
        spherical = spherical * (scales.unsqueeze(1) * envelope).unsqueeze(2)
        ends = EdgeEnds(edges.source, edges.target, edges.vectors)
        into = arrivals(edges.target, harmonics, spherical, num_atoms)
        return EdgeGraph(ends, radial, harmonics, into)


class FirstMessages(nn.Module):
    """Messages from the elements at both ends of an edge and its length.

    Args:
        channels: C.
        num_radial: R.
        max_num_elements: Atomic numbers must be below this.
        activation: See :func:`adatom.nn.activations.activation`.
    """

    def __init__(
        self, channels: int, num_radial: int, max_num_elements: int, activation: str
    ) -> None:
        super().__init__()
        self.embedding = ElementEmbedding(max_num_elements, channels)
        nn.init.uniform_(self.embedding.weight, -math.sqrt(3), math.sqrt(3))
        self.length = glorot_orthogonal(num_radial, channels)
        self.mix = glorot_orthogonal(3 * channels, channels)
        self.act = make_activation(activation)

    def forward(self, numbers: torch.Tensor, graph: EdgeGraph) -> torch.Tensor:
        """Return ``[E, C]`` for atomic numbers ``[N]``."""
        elements = self.embedding(numbers)
        # The parts of the matrix on elements are applied to atoms, of which there are fewer.
        source, target, length = self.mix.weight.chunk(3, dim=1)
        of_source = (elements @ source.T).index_select(0, graph.ends.source)
        of_target = (elements @ target.T).index_select(0, graph.ends.target)
        of_length = self.act(self.length(graph.radial)) @ length.T
        messages: torch.Tensor = self.act(of_source + of_target + of_length + self.mix.bias)
        return messages


class MessageUpdate(nn.Module):
    """One block: a message takes up those that arrive at its source, by their angles to it.

    Args:
        channels: C of messages.
        inner: Channels in the sum over angles.
        between: Channels between the two matrices on each basis.
        basis: ``(num_spherical, num_radial)``.
        residuals: ``(num_before_skip, num_after_skip)``.
        activation: See :func:`adatom.nn.activations.activation`.
    """

    def __init__(
        self,
        channels: int,
        inner: int,
        between: int,
        basis: tuple[int, int],
        residuals: tuple[int, int],
        activation: str,
    ) -> None:
        super().__init__()
        self.act = make_activation(activation)
        self.own = glorot_orthogonal(channels, channels)
        self.other = glorot_orthogonal(channels, channels)
        self.radial = _two_matrices(basis[1], between, channels)
        self.spherical = _two_matrices(basis[0] * basis[1], between, inner)
        self.down = glorot_orthogonal(channels, inner, bias=False)
        self.up = glorot_orthogonal(inner, channels, bias=False)
        self.before = nn.Sequential(*(Residual(channels, activation) for _ in range(residuals[0])))
        self.skip = glorot_orthogonal(channels, channels)
        self.after = nn.Sequential(*(Residual(channels, activation) for _ in range(residuals[1])))

    def forward(self, messages: torch.Tensor, steps: EdgeSteps) -> torch.Tensor:
        """Return the messages ``[E', C]`` of the edges after the step from those before, [E, C]."""
        own = messages if steps.kept is None else messages.index_select(0, steps.kept)
        arriving = self.act(self.other(messages)) * self.radial(steps.before.radial)
        arriving = self.act(self.down(arriving))
        summed = angular_sums(
            arriving, self._spherical_weight(steps), steps.before.arrivals, steps.departures
        )
        update = self.act(self.up(summed)) + self.act(self.own(own))
        update = self.act(self.skip(self.before(update)))
        updated: torch.Tensor = self.after(own + update)
        return updated

    def _spherical_weight(self, steps: EdgeSteps) -> torch.Tensor:
        """Return the product of both matrices on the spherical basis, ``[L, R, inner]``."""
        first, second = (cast("nn.Linear", layer).weight for layer in self.spherical)
        degrees = steps.before.arrivals.radial.shape[0]
        weight: torch.Tensor = (second @ first).T
        return weight.reshape(degrees, -1, weight.shape[1])


class AtomOutput(nn.Module):
    """Features of atoms from the messages that arrive at them.

    Args:
        channels: C of messages.
        out_channels: Channels of the result.
        num_radial: R.
        num_dense: Layers with an activation.
        activation: See :func:`adatom.nn.activations.activation`.
    """

    def __init__(
        self, channels: int, out_channels: int, num_radial: int, num_dense: int, activation: str
    ) -> None:
        super().__init__()
        self.radial = glorot_orthogonal(num_radial, channels, bias=False)
        layers: list[nn.Module] = [glorot_orthogonal(channels, out_channels, bias=False)]
        for _ in range(num_dense):
            dense = glorot_orthogonal(out_channels, out_channels)
            layers += [dense, make_activation(activation)]
        self.layers = nn.Sequential(*layers)

    def forward(self, messages: torch.Tensor, graph: EdgeGraph, last: Neighborhood) -> torch.Tensor:
        """Return ``[N, out_channels]`` of the atoms that are wanted.

        Args:
            messages: ``[E, C]``.
            graph: Of the same edges.
            last: Of the last layer; says which atoms are wanted.
        """
        radial, target, count = graph.radial, graph.ends.target, graph.num_atoms
        if last.rows is not None:
            edges, count = last.target.shape[0], last.rows
            messages, radial, target = (
                first_rows(values, edges) for values in (messages, radial, target)
            )
        sums = segment_sum(messages * self.radial(radial), target, count)
        outputs: torch.Tensor = self.layers(sums)
        return outputs


class Residual(nn.Module):
    """``y + s(W s(W y))``.

    Args:
        channels: Of y.
        activation: See :func:`adatom.nn.activations.activation`.
    """

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            glorot_orthogonal(channels, channels),
            make_activation(activation),
            glorot_orthogonal(channels, channels),
            make_activation(activation),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return ``[E, C]`` for ``[E, C]``."""
        changed: torch.Tensor = self.layers(features)
        return features + changed


def _two_matrices(inputs: int, between: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        glorot_orthogonal(inputs, between, bias=False),
        glorot_orthogonal(between, outputs, bias=False),
    )
