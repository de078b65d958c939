"""A descriptor of each atom's neighborhood and a network of dense layers on it.

J. Behler and M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007): the energy of an atom is a network
of its own element applied to fixed functions of the positions of its neighbors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from ase.data import atomic_numbers
from torch import nn

from adatom.core.errors import ConfigError, OutOfDomainError
from adatom.core.traced_input import traced_input
from adatom.data.atomic_data import AtomicData, collate
from adatom.models.base import Backbone, Head, Neighborhood, NodeFeatures
from adatom.nn.activations import activation as make_activation
from adatom.nn.descriptors.build import build_descriptor
from adatom.nn.initialization import AFTER_SILU, fill_normal

#: Standard deviations below this part of the largest are taken to be rounding.
_CONSTANT = 1e-10


class DescriptorNetwork(Backbone):
    """Descriptor, standardization and dense layers; atoms see each other through it alone.

    Values are shifted and scaled before the first layer by ``mean`` and ``scale``, which are part
    of the weights. They are 0 and 1 until :meth:`learn_scales` takes them from structures, which
    ``adatom s2ef fit`` does before it trains a new network.

    Args:
        descriptor: ``kind`` (``SymmetryFunctions``, ``Bispectrum`` or ``SOAP``) and the arguments
            of that class, such as ``species`` and ``cutoffs``; see :mod:`adatom.nn.descriptors`.
        hidden: Widths of the layers; the last one is C.
        activation: See :func:`adatom.nn.activations.activation`.
        per_element: Whether each element has layers of its own, or all share them. The linear
            layer of the head is shared in both cases.
        max_neighbors: Limit used when the neighbor list is built, or None.

    Raises:
        ConfigError: If a number is out of range, or the descriptor or activation is not possible.
        UnknownNameError: If a name is not known.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    codes: torch.Tensor

    def __init__(
        self,
        descriptor: dict[str, Any],
        hidden: Sequence[int] = (32, 32),
        activation: str = "torch.nn.SiLU",
        *,
        per_element: bool = True,
        max_neighbors: int | None = None,
    ) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise ConfigError(f"hidden is {list(hidden)}", expected="at least one positive width")
        self.descriptor = build_descriptor(descriptor)
        if not self.descriptor.smooth:
            raise ConfigError(
                "The descriptor jumps at its cutoff, where forces would be infinite",
                expected="one with a cutoff function",
            )
        numbers = [atomic_numbers[symbol] for symbol in self.descriptor.species]
        self.cutoff = self.descriptor.cutoff
        self.max_neighbors = max_neighbors
        self.max_num_elements = max(numbers) + 1
        self.num_message_layers = 1
        self.num_channels = hidden[-1]
        self.reflection_invariant = True
        self.networks = len(numbers) if per_element else 1
        width = self.descriptor.width
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        codes = torch.full((self.max_num_elements,), -1, dtype=torch.int64)
        codes[numbers] = torch.arange(len(numbers))
        self.register_buffer("codes", codes, persistent=False)
        self.layers = nn.ModuleList(
            ParallelLinear(self.networks, before, after, 1.0 if n == 0 else AFTER_SILU)
            for n, (before, after) in enumerate(zip((width, *hidden), hidden, strict=False))
        )
        self.act = make_activation(activation)

    def default_head(self) -> Head:
        """Return one linear layer, summed over the atoms."""
        from adatom.models.energy_head import EnergyHead

        return EnergyHead(self.num_channels, None)

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        """Compute node features; see the base class.

        Raises:
            OutOfDomainError: If an element is not among the species of the descriptor.
        """
        species = self.species_codes(data.atomic_numbers)
        return NodeFeatures(self.dense(self.values(species, edges[0]), species))

    def values(self, species: torch.Tensor, edges: Neighborhood) -> torch.Tensor:
        """Return the descriptor ``[N, width]`` of atoms with species codes ``[N]``."""
        values: torch.Tensor = self.descriptor(species, edges.source, edges.target, edges.vectors)
        return values

    def dense(self, values: torch.Tensor, species: torch.Tensor) -> torch.Tensor:
        """Return ``[N, C]`` for descriptor values ``[N, width]`` and species codes ``[N]``."""
        hidden = ((values - self.mean) / self.scale).unsqueeze(0)
        for layer in self.dense_layers():
            hidden = self.act(layer(hidden))
        if self.networks == 1:
            return hidden[0]
        # Every network sees every atom: that costs little beside the descriptor.
        chosen = species.view(1, -1, 1).expand(1, -1, hidden.shape[2])
        return hidden.gather(0, chosen)[0]

    def dense_layers(self) -> list[ParallelLinear]:
        """Return the linear layers in their order; the activation follows each."""
        return [cast("ParallelLinear", layer) for layer in self.layers]

    def species_codes(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return species codes ``[N]`` of atomic numbers ``[N]``.

        Raises:
            OutOfDomainError: If an element is not among the species of the descriptor.
        """
        codes = self.codes.index_select(0, numbers.clamp(0, self.max_num_elements - 1))
        if traced_input() is None:
            unknown = (codes < 0) | (numbers >= self.max_num_elements)
            if bool(unknown.any()):
                atom = int(unknown.nonzero()[0])
                raise OutOfDomainError(
                    f"Atom {atom} of the batch has atomic number {int(numbers[atom])}",
                    expected=f"only {', '.join(self.descriptor.species)}",
                )
        return codes

    def learn_scales(self, systems: Sequence[AtomicData]) -> str:
        """Take mean and scale of each value from structures.

        The scale is the standard deviation over all atoms. A value that is the same everywhere
        keeps the scale 1.

        Args:
            systems: Structures; edges are found if they have none.

        Returns:
            What was done, in one sentence.

        Raises:
            OutOfDomainError: If an element is not among the species of the descriptor.
        """
        found = [self._values_of(system) for system in systems]
        values = torch.cat(found)
        mean, scale = values.mean(dim=0), values.std(dim=0, correction=0)
        floor = _CONSTANT * float(values.abs().max())
        scale = torch.where(scale > floor, scale, torch.ones_like(scale))
        with torch.no_grad():
            self.mean.copy_(mean)
            self.scale.copy_(scale)
        return (
            f"Standardized {values.shape[1]} descriptor values by {len(values)} atoms of "
            f"{len(systems)} training structures."
        )

    @torch.no_grad()
    def _values_of(self, system: AtomicData) -> torch.Tensor:
        placed = system.with_edges(self.cutoff, max_neighbors=self.max_neighbors)
        batch = collate([placed]).to(self.mean.device)
        if batch.edges is None:
            raise ConfigError("The structure has no edges")
        vectors = batch.edges.vectors(batch.pos, batch.cell).to(self.mean.dtype)
        source, target = batch.edges.index
        edges = Neighborhood(source, target, vectors, batch.edges.counts)
        return self.values(self.species_codes(batch.atomic_numbers), edges).double()


class ParallelLinear(nn.Module):
    """Several linear layers side by side.

    Args:
        networks: P.
        before: Size of the input.
        after: Size of the output.
        gain: Standard deviation of the output for unit-variance input.
    """

    def __init__(self, networks: int, before: int, after: int, gain: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(networks, before, after))
        self.bias = nn.Parameter(torch.zeros(networks, 1, after))
        fill_normal(self.weight, before, gain)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return ``[P, N, after]`` for ``[P, N, before]``, or for ``[1, N, before]`` in all."""
        product: torch.Tensor = torch.matmul(features, self.weight) + self.bias
        return product
