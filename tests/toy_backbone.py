"""A small smooth potential for tests: Morse pairs plus a tiny network on smooth densities.

It needs no training, is stable in dynamics, and follows the contract of every backbone, so that
tests of inference, calculators and simulations do not wait for a network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from adatom.data.atomic_data import AtomicData
from adatom.models.base import Backbone, Head, Neighborhood, NodeFeatures
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task


class ToyBackbone(Backbone):
    """Morse energies in channel 0 and two message layers on Gaussian densities in the others.

    Args:
        cutoff: In angstrom.
        num_channels: At least 2.
        morse_depth: Well depth in eV.
        morse_distance: Pair distance at the minimum, in angstrom.
    """

    def __init__(
        self,
        cutoff: float = 4.0,
        num_channels: int = 5,
        morse_depth: float = 0.4,
        morse_distance: float = 2.6,
    ) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.max_neighbors = None
        self.num_message_layers = 2
        self.num_channels = num_channels
        self.reflection_invariant = True
        self.morse_depth = morse_depth
        self.morse_distance = morse_distance
        width = num_channels - 1
        self.element = nn.Embedding(self.max_num_elements, width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        """Compute ``[N, C]`` scalars; see the base class."""
        charge = 0.1 * data.charge.to(self.first.weight.dtype)[data.batch]
        element = self.element(data.atomic_numbers) + charge[:, None]
        pairs = element.new_zeros(len(element))
        hidden = torch.tanh(element)
        for layer, neighborhood in zip((self.first, self.second), edges, strict=True):
            distance = neighborhood.vectors.norm(dim=1)
            # Smooth to third order at the cutoff.
            envelope = (1.0 - (distance / self.cutoff).clamp(max=1.0) ** 2) ** 4
            centers = torch.linspace(1.0, self.cutoff, hidden.shape[1]).to(distance)
            radial = torch.exp(-((distance[:, None] - centers) ** 2)) * envelope[:, None]
            messages = radial * hidden[neighborhood.source]
            density = torch.zeros_like(hidden).index_add(0, neighborhood.target, messages)
            hidden = torch.tanh(layer(density) + element)
        decay = torch.exp(-1.5 * (distance - self.morse_distance))
        morse = 0.5 * self.morse_depth * (decay**2 - 2.0 * decay) * envelope
        pairs = pairs.index_add(0, edges[-1].target, morse)
        return NodeFeatures(torch.cat([pairs[:, None], hidden], dim=1))


class ToyHead(Head):
    """Morse energy plus a small linear part.

    Args:
        num_channels: C of the backbone.
        scale: Weight of the network part, in eV.
    """

    def __init__(self, num_channels: int = 5, scale: float = 0.05) -> None:
        super().__init__()
        self.scale = scale
        self.linear = nn.Linear(num_channels - 1, 1)

    def forward(self, features: NodeFeatures, data: AtomicData) -> dict[str, torch.Tensor]:
        """Return per-atom energies ``[N]``."""
        del data
        network = self.linear(features.scalars[:, 1:]).squeeze(1)
        return {"energies": features.scalars[:, 0] + self.scale * network}


def toy_potential(
    datasets: Sequence[str] = ("default",),
    elements: Sequence[int] = (1, 6, 8, 14, 18, 29),
    *,
    rmsd: float = 1.0,
    stress: bool = True,
    seed: int = 0,
) -> Potential:
    """Build an untrained toy potential in float64 with one energy/forces/stress task each."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone, head = ToyBackbone(), ToyHead()
    references = torch.zeros(119, dtype=torch.float64)
    references[1:] = -0.01 * torch.arange(1, 119, dtype=torch.float64)
    tasks = []
    for name in datasets:
        normalizer = Normalizer(0.0, rmsd)
        energy = Task(
            f"{name}_energy", "system", "energy", OutputSpec((1,)), normalizer, [name],
            element_references=references,
        )  # fmt: skip
        forces = Task(f"{name}_forces", "atom", "forces", OutputSpec((3,)), normalizer, [name])
        tasks += [energy, forces]
        if stress:
            spec = OutputSpec((3, 3))
            tasks.append(Task(f"{name}_stress", "system", "stress", spec, normalizer, [name]))
    domain = Domain(tuple(elements), charges=(0, 1), spins=(0, 1))
    return Potential(backbone, head, tasks, dict.fromkeys(datasets, domain)).double()
