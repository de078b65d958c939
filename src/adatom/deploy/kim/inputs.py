"""The tensors that ``forward`` is called with, made in Python.

The same as those of the driver (``driver/model_inputs.hpp``), by other means. With N particles
and C contributing ones:

========== ======================================================================================
raw        species i64[N], coordinates f64[N, 3], list lengths i32[C], lists i32[L] (one after the
           other, of contributing particles), mask i64[N] (1 contributing, 0 ghost)
descriptor values f64[C, width]
graph      species i64[N], coordinates f64[N, 3], graph layers i64[2, E_k], the smallest first,
           batch index i64[N] (0 contributing, 1 ghost)
========== ======================================================================================

Lists and edges end at the cutoff. Edges are sorted by their second row, then by the first, and
both directions of each are there, unless the model takes directed edges. A single particle of a
graph gets a companion far away. Models that take edge vectors get them at the end:
``x[first] - x[second]`` per layer, or ``x[neighbor] - x[center]`` for lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import atomic_numbers

from adatom.core.errors import ConfigError
from adatom.deploy.kim.configuration import Configuration, Integers
from adatom.deploy.kim.description import ModelDescription
from adatom.deploy.kim.limits import require_composition, require_few_neighbors
from adatom.deploy.kim.neighbor_lists import neighbor_pairs

#: Where the only particle of a graph gets its companion, in angstrom.
FAR_AWAY = 999.0

#: From species codes i64[N], coordinates f64[N, 3], contributing particles i64[C], and pairs
#: within the cutoff (centers i64[E], ascending, and neighbors i64[E]) to values f64[C, width].
DescriptorFunction = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor
]


@dataclass(frozen=True)
class Pairs:
    """Edges with vectors ``x[first] - x[second]`` ``[E, 3]``, which are leaves with gradients."""

    first: torch.Tensor
    second: torch.Tensor
    vectors: torch.Tensor


@dataclass(frozen=True)
class Inputs:
    """Arguments of ``forward``, what of them has gradients, and whether there are edges at all."""

    arguments: list[torch.Tensor]
    coordinates: torch.Tensor
    pairs: list[Pairs]
    interacting: bool


def staged_graph(
    sender: Integers,
    receiver: Integers,
    contributing: np.ndarray,
    layers: int,
    *,
    directed: bool = False,
) -> list[Integers]:
    """Choose the edges that each layer needs.

    Layer 0 has the edges that touch contributing particles; layer k those that touch particles
    that are k steps along edges away. The network applies the last (widest) first.

    Args:
        sender: ``[E]``; all pairs within the cutoff, both directions.
        receiver: ``[E]``.
        contributing: ``[N]`` bool.
        layers: How many.
        directed: Leave out edges that no particle of the layer receives; each layer's particles
            are those of the one before and what they reach.

    Returns:
        One ``[2, E_k]`` per layer, in the order of the pairs given.
    """
    graph = []
    inside = np.asarray(contributing, dtype=bool)
    for _ in range(layers):
        chosen = inside[receiver] if directed else inside[sender] | inside[receiver]
        graph.append(np.stack([sender[chosen], receiver[chosen]]))
        # Particles that receive nothing from each other, such as the atom of a cell with one, are
        # not reached again; symmetrized, they receive their edges all the same.
        reached = inside.copy() if directed else np.zeros_like(inside)
        reached[sender[inside[receiver]]] = True
        inside = reached
    return graph


def make_inputs(
    description: ModelDescription,
    configuration: Configuration,
    *,
    vectors: bool = False,
    descriptor: DescriptorFunction | None = None,
) -> Inputs:
    """Make the arguments of ``forward`` for one configuration.

    Args:
        description: The model; its pattern decides.
        configuration: Particles, at least to the influence distance.
        vectors: Whether edge vectors follow at the end.
        descriptor: Needed for the pattern ``"descriptor"``.

    Raises:
        ConfigError: If the pattern is ``"descriptor"`` and no function was given.
        OutOfDomainError: If the model is for another composition, or for fewer neighbors.
    """
    require_composition(description, configuration)
    coordinates = torch.from_numpy(configuration.coordinates.copy())
    species = _species(description, configuration)
    contributing = torch.from_numpy(configuration.contributing).to(torch.int64)
    padded = description.pattern == "graph" and len(species) == 1
    if padded:
        far = torch.full((1, 3), FAR_AWAY, dtype=torch.float64)
        coordinates, species = torch.cat([coordinates, far]), species.repeat(2)
    coordinates.requires_grad_()
    sender, receiver = neighbor_pairs(configuration.coordinates, description.cutoff)
    if description.pattern == "graph":
        layers = staged_graph(
            sender,
            receiver,
            configuration.contributing,
            description.layers,
            directed=description.directed_edges,
        )
        require_few_neighbors(description, _received(layers, configuration, description))
        graph = [torch.from_numpy(layer) for layer in layers]
        ghosts = 1 - contributing
        ghosts = torch.cat([ghosts, torch.ones_like(ghosts)]) if padded else ghosts
        pairs = [_pairs(coordinates, edges[0], edges[1]) for edges in graph] if vectors else []
        arguments = [species, coordinates, *graph, ghosts]
        arguments += [pair.vectors for pair in pairs]
        return Inputs(arguments, coordinates, pairs, interacting=graph[0].numel() > 0)
    listed = configuration.contributing[receiver]
    require_few_neighbors(description, receiver[listed])
    neighbors, centers = (torch.from_numpy(side[listed]) for side in (sender, receiver))
    if description.pattern == "descriptor":
        if descriptor is None:
            raise ConfigError("A descriptor model was given no descriptor function")
        rows = contributing.nonzero()[:, 0]
        values = descriptor(species, coordinates, rows, centers, neighbors)
        return Inputs([values], coordinates, [], interacting=len(centers) > 0)
    lengths = torch.bincount(centers, minlength=len(species))[contributing.bool()]
    pairs = [_pairs(coordinates, neighbors, centers)] if vectors else []
    lists = [lengths.to(torch.int32), neighbors.to(torch.int32)]
    arguments = [species, coordinates, *lists, contributing, *(pair.vectors for pair in pairs)]
    return Inputs(arguments, coordinates, pairs, interacting=len(centers) > 0)


def _received(
    layers: list[Integers], configuration: Configuration, description: ModelDescription
) -> Integers:
    """Return the receivers of the widest layer whose neighbors are all there, one per edge."""
    receivers: Integers = layers[-1][1]
    if description.directed_edges:
        return receivers
    inside = configuration.contributing
    if len(layers) > 1:
        # All that an edge of the layer before touches.
        inside = np.zeros_like(inside)
        inside[layers[-2][1]] = True
    return receivers[inside[receivers]]


def _species(description: ModelDescription, configuration: Configuration) -> torch.Tensor:
    if description.species_input == "code":
        return torch.from_numpy(configuration.species.copy())
    numbers = torch.tensor([atomic_numbers[symbol] for symbol in description.species])
    return numbers[torch.from_numpy(configuration.species)]


def _pairs(coordinates: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> Pairs:
    vectors = (coordinates[first] - coordinates[second]).detach().requires_grad_()
    return Pairs(first, second, vectors)
