"""Small potentials for the three calling conventions, and what they give without KIM.

The reference builds periodic pairs with ASE, passes them to the same formulas in a cell, and takes
the stress from a strain: no ghosts, no lists, no staged graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple  # noqa: UP035 - TorchScript reads these

import numpy as np
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from torch import nn

from adatom.deploy.kim.description import ModelDescription

SPECIES = ("Si", "C")


def envelope(distance: torch.Tensor, cutoff: float) -> torch.Tensor:
    """Go from 1 to 0 at the cutoff, with three continuous derivatives."""
    inside = (1 - (distance / cutoff) ** 2).clamp(min=0.0)
    return inside**4


class PairSum(nn.Module):
    """Energy of an atom: a pair term and the square root of a density, as in Finnis-Sinclair."""

    def __init__(self, cutoff: float = 4.0) -> None:
        super().__init__()
        self.cutoff = cutoff
        generator = torch.Generator().manual_seed(3)
        strength = torch.rand(2, 2, generator=generator, dtype=torch.float64)
        self.strength = nn.Parameter(strength + strength.T)

    def energies(
        self, species: torch.Tensor, first: torch.Tensor, second: torch.Tensor, v: torch.Tensor
    ) -> torch.Tensor:
        distance = torch.linalg.vector_norm(v, dim=1)
        weight = self.strength[species[first], species[second]]
        repulsion = weight * torch.exp(2.0 - distance) * envelope(distance, self.cutoff)
        density = torch.exp(3.0 - 1.5 * distance) * envelope(distance, self.cutoff)
        zero = torch.zeros(species.shape[0], dtype=v.dtype, device=v.device)
        rho = zero.index_add(0, second, density)
        return zero.index_add(0, second, repulsion) - torch.sqrt(rho + 0.1)


class RawToy(PairSum):
    """Raw convention; takes vectors at the end, if it is given any."""

    def forward(
        self,
        species: torch.Tensor,
        coords: torch.Tensor,
        n_neigh: torch.Tensor,
        nlist: torch.Tensor,
        contributing: torch.Tensor,
        vectors: Optional[torch.Tensor] = None,  # noqa: UP045
    ) -> torch.Tensor:
        contributors = torch.nonzero(contributing)[:, 0]
        centers = torch.repeat_interleave(contributors, n_neigh.to(torch.int64))
        neighbors = nlist.to(torch.int64)
        if vectors is None:
            vectors = coords[neighbors] - coords[centers]
        return self.energies(species, neighbors, centers, vectors) * contributing


class RawToyWithForces(PairSum):
    """Raw convention, differentiates by itself, and gives a total only."""

    def forward(
        self,
        species: torch.Tensor,
        coords: torch.Tensor,
        n_neigh: torch.Tensor,
        nlist: torch.Tensor,
        contributing: torch.Tensor,
    ) -> Tuple[torch.Tensor, torch.Tensor]:  # noqa: UP006
        contributors = torch.nonzero(contributing)[:, 0]
        centers = torch.repeat_interleave(contributors, n_neigh.to(torch.int64))
        neighbors = nlist.to(torch.int64)
        vectors = coords[neighbors] - coords[centers]
        energy = (self.energies(species, neighbors, centers, vectors) * contributing).sum()
        gradient = torch.autograd.grad([energy], [coords])[0]
        if gradient is None:
            gradient = torch.zeros_like(coords)
        return energy, -gradient


class GraphToy(nn.Module):
    """Two rounds of messages with gates; the widest graph goes first."""

    def __init__(self, cutoff: float = 3.2, channels: int = 4) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.channels = channels
        generator = torch.Generator().manual_seed(7)

        def weights(*shape: int) -> nn.Parameter:
            drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return nn.Parameter(0.6 * drawn)

        self.element = weights(2, channels)
        self.mix_1 = weights(channels, channels)
        self.mix_0 = weights(channels, channels)
        self.readout = weights(channels, 1)

    def layer(
        self,
        h: torch.Tensor,
        first: torch.Tensor,
        second: torch.Tensor,
        v: torch.Tensor,
        mix: torch.Tensor,
    ) -> torch.Tensor:
        distance = torch.linalg.vector_norm(v, dim=1)
        centers = torch.linspace(1.0, 3.0, self.channels, dtype=v.dtype, device=v.device)
        radial = torch.exp(-((distance.unsqueeze(1) - centers) ** 2))
        radial = radial * envelope(distance, self.cutoff).unsqueeze(1)
        messages = torch.tanh(h[first] @ mix + h[second]) * radial
        return h + torch.zeros_like(h).index_add(0, second, messages)

    def energies(
        self,
        species: torch.Tensor,
        first: List[torch.Tensor],  # noqa: UP006
        second: List[torch.Tensor],  # noqa: UP006
        vectors: List[torch.Tensor],  # noqa: UP006
    ) -> torch.Tensor:
        h = self.element[species]
        h = self.layer(h, first[1], second[1], vectors[1], self.mix_1)
        h = self.layer(h, first[0], second[0], vectors[0], self.mix_0)
        return (torch.tanh(h) @ self.readout)[:, 0]

    def forward(
        self,
        species: torch.Tensor,
        coords: torch.Tensor,
        graph_1: torch.Tensor,
        graph_2: torch.Tensor,
        contributing: torch.Tensor,
        vectors_1: Optional[torch.Tensor] = None,  # noqa: UP045
        vectors_2: Optional[torch.Tensor] = None,  # noqa: UP045
    ) -> torch.Tensor:
        if vectors_1 is None:
            vectors_1 = coords[graph_1[0]] - coords[graph_1[1]]
        if vectors_2 is None:
            vectors_2 = coords[graph_2[0]] - coords[graph_2[1]]
        energies = self.energies(
            species, [graph_1[0], graph_2[0]], [graph_1[1], graph_2[1]], [vectors_1, vectors_2]
        )
        return energies * (contributing == 0)


def radial_descriptor(
    species: torch.Tensor,
    coordinates: torch.Tensor,
    contributors: torch.Tensor,
    centers: torch.Tensor,
    neighbors: torch.Tensor,
    cutoff: float = 4.0,
) -> torch.Tensor:
    """Gaussian densities, one per width."""
    distance = torch.linalg.vector_norm(coordinates[neighbors] - coordinates[centers], dim=1)
    widths = torch.tensor([0.2, 0.5, 1.0], dtype=coordinates.dtype)
    terms = torch.exp(-widths * distance.unsqueeze(1) ** 2)
    terms = terms * envelope(distance, cutoff).unsqueeze(1) * (1.0 + species[neighbors, None])
    values = torch.zeros(len(species), 3, dtype=coordinates.dtype).index_add(0, centers, terms)
    return values[contributors]


class DescriptorToy(nn.Module):
    """From descriptors to energies of contributing atoms."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.tanh(values).sum(dim=1) + 0.1 * (values**2).sum(dim=1)


def description(model: nn.Module, **changes: object) -> ModelDescription:
    """Describe a toy."""
    facts: dict[str, object] = {
        "name": "Toy__MO_000000000001_000",
        "species": SPECIES,
        "pattern": "raw",
        "cutoff": 4.0,
    }
    if isinstance(model, GraphToy):
        facts |= {"pattern": "graph", "layers": 2, "cutoff": model.cutoff}
    if isinstance(model, DescriptorToy):
        facts |= {"pattern": "descriptor", "descriptor": "Toy"}
    if isinstance(model, RawToyWithForces):
        facts |= {"outputs": ("energy", "forces")}
    if isinstance(model, RawToy | GraphToy):
        facts |= {"edge_vectors": True}
    return ModelDescription(**(facts | changes))


@dataclass(frozen=True)
class Direct:
    """Results without KIM: per atom, and the stress (eV/angstrom^3) where the cell has a volume."""

    energy: float
    energies: np.ndarray
    forces: np.ndarray
    stress: np.ndarray | None


def direct(model: nn.Module, atoms: Atoms) -> Direct:
    """Compute energy, forces and stress in the cell itself."""
    cutoff = 4.0 if isinstance(model, DescriptorToy) else model.cutoff
    i, j, shift = neighbor_list("ijS", atoms, cutoff)
    first, second = torch.from_numpy(j), torch.from_numpy(i)
    positions = torch.from_numpy(atoms.positions.copy()).requires_grad_()
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    shifts = torch.from_numpy(shift @ atoms.cell.array)
    vectors = positions[first] - positions[second] + shifts
    vectors = vectors + vectors @ (strain + strain.T) / 2
    species = torch.tensor([SPECIES.index(symbol) for symbol in atoms.symbols])
    if isinstance(model, GraphToy):
        energies = model.energies(species, [first] * 2, [second] * 2, [vectors] * 2)
    elif not isinstance(model, DescriptorToy):
        energies = model.energies(species, first, second, vectors)
    else:
        # Two points per pair: the descriptor only looks at differences.
        points = torch.cat([torch.zeros_like(vectors), vectors])
        kinds = torch.cat([species[second], species[first]])
        count = len(vectors)
        pairs = torch.arange(count)
        each = radial_descriptor(kinds, points, pairs, pairs, pairs + count)
        values = torch.zeros(len(atoms), 3, dtype=torch.float64).index_add(0, second, each)
        energies = model(values)
    gradients = torch.autograd.grad(energies.sum(), (positions, strain), allow_unused=True)
    position_gradient, strain_gradient = (
        torch.zeros_like(like) if gradient is None else gradient
        for gradient, like in zip(gradients, (positions, strain), strict=True)
    )
    volume = abs(np.linalg.det(atoms.cell.array))
    stress = strain_gradient.numpy()[[0, 1, 2, 1, 2, 0], [0, 1, 2, 2, 0, 1]]
    return Direct(
        energy=float(energies.detach().sum()),
        energies=energies.detach().numpy(),
        forces=-position_gradient.numpy(),
        stress=stress / volume if volume > 0 else None,
    )
