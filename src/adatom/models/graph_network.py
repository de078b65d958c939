"""Any network from graphs to energies, as a backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch

from adatom.core.errors import ConfigError, unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.data.frameworks.dgl import to_dgl
from adatom.data.frameworks.plain_graph import to_plain
from adatom.data.frameworks.pyg import to_pyg
from adatom.models.base import Backbone, Head, Neighborhood, NodeFeatures
from adatom.models.energy_model import AbstractEnergyModel
from adatom.models.periodic_images import require_images

#: What makes the graph of each framework.
_CONVERSIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"native": to_plain, "pyg": to_pyg, "dgl": to_dgl}
)


class NetworkEnergies(Head):
    """Reads the energies that a :class:`GraphNetwork` gives."""

    def forward(self, features: NodeFeatures, _data: AtomicData) -> dict[str, torch.Tensor]:
        """Return per-atom ``energies [N]`` in network units."""
        return {"energies": features.scalars[:, 0]}


class GraphNetwork(Backbone):
    """Wraps an :class:`~adatom.models.energy_model.AbstractEnergyModel`; its head reads energies.

    An energy that the network gives for a whole system is shared equally among its atoms.

    Args:
        network: The network, or how to make it: ``{"class_path": ..., "init_args": {...}}``.

    Raises:
        ConfigError: If ``network`` names no such class.
        UnknownNameError: If its class is not allowed, or its framework not known.
    """

    def __init__(self, network: AbstractEnergyModel | dict[str, Any]) -> None:
        super().__init__()
        self.network = _network(network)
        framework = self.network.framework
        if framework not in _CONVERSIONS:
            raise unknown_name("framework", framework, _CONVERSIONS)
        self._convert = _CONVERSIONS[framework]
        self._trusted = self.network.ignores_images
        self.cutoff = self.network.cutoff
        self.max_neighbors = self.network.max_neighbors
        self.max_num_elements = self.network.max_num_elements
        self.reflection_invariant = self.network.reflection_invariant
        self.uses_positions = True
        self.num_message_layers = 1
        self.num_channels = 1

    def default_head(self) -> Head:
        """Return the head that takes the network's energies as they are."""
        return NetworkEnergies()

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        """Return the energies of the atoms as scalars ``[N, 1]``.

        The first periodic batch is computed with some atoms moved by lattice vectors too.

        Raises:
            ConfigError: If the network returns another shape than it should, or another energy for
                the moved atoms.
        """
        vectors = edges[0].vectors
        data = replace(data, labels={})
        if not self._trusted and bool(data.pbc.any()):
            require_images(self.network, lambda moved: self._energies(moved, vectors), data)
            self._trusted = True
        return NodeFeatures(self._energies(data, vectors)[:, None])

    def _energies(self, data: AtomicData, vectors: torch.Tensor) -> torch.Tensor:
        graph = self._convert(data, vectors=vectors, dtype=vectors.dtype)
        return self._per_atom(self.network(graph), data)

    def _per_atom(self, energies: torch.Tensor, data: AtomicData) -> torch.Tensor:
        found = tuple(energies.shape)
        flat = energies.squeeze(1) if energies.dim() == 2 and found[1] == 1 else energies
        # Where both shapes agree, every system is one atom, and both mean the same.
        if flat.shape == data.natoms.shape:
            return (flat / data.natoms)[data.batch]
        if flat.shape == data.batch.shape:
            return flat
        raise ConfigError(
            f"{type(self.network).__name__} returns energies of shape {found} for "
            f"{data.num_systems} systems of {data.num_atoms} atoms",
            expected=f"({data.num_systems},) or ({data.num_systems}, 1), one per system, or "
            f"({data.num_atoms},), one per atom",
        )


def as_backbone(network: AbstractEnergyModel) -> GraphNetwork:
    """Return a backbone that holds this network; it is not copied."""
    return GraphNetwork(network)


def _network(given: AbstractEnergyModel | dict[str, Any]) -> AbstractEnergyModel:
    from adatom.models.registry import build

    if isinstance(given, AbstractEnergyModel):
        return given
    if not isinstance(given, dict) or not {"class_path"} <= set(given) <= {
        "class_path",
        "init_args",
    }:
        raise ConfigError(f"The network is {given!r}", expected="class_path and init_args")
    network = build(given["class_path"], given.get("init_args", {}))
    if not isinstance(network, AbstractEnergyModel):
        raise ConfigError(
            f"The network is {given['class_path']!r}", expected="an AbstractEnergyModel"
        )
    return network
