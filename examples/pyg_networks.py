"""Networks for graphs of PyTorch Geometric: your own, and SchNet as that library has it.

Needs `pip install 'adatom[pyg]'`. Run it with `python examples/pyg_networks.py --output own`.
"""

from __future__ import annotations

import torch
from own_network import RadialNetwork, train
from torch import nn
from torch_geometric.data import Batch
from torch_geometric.nn import MessagePassing, SchNet

from adatom.models.energy_model import AbstractEnergyModel


class WeightedSum(MessagePassing):
    """Sum over neighbors, each times the weights of its edge."""

    def __init__(self) -> None:
        super().__init__(aggr="add")

    def forward(
        self, atoms: torch.Tensor, edge_index: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Return sums ``[N, C]`` from atoms ``[N, C]`` and weights ``[E, C]``."""
        return self.propagate(edge_index, x=atoms, weights=weights)

    def message(self, x_j: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return messages ``[E, C]``."""
        return weights * x_j


class PyGRadialNetwork(RadialNetwork):
    """The network of `own_network.py`, from a ``torch_geometric.data.Batch``."""

    framework = "pyg"

    def forward(self, graph: Batch) -> torch.Tensor:
        """Return energies of the atoms ``[N]``."""
        neighbors = WeightedSum()
        atoms, radial = self.element(graph.atomic_numbers), self.radial(graph.edge_distances)
        for weight, update in zip(self.weights, self.updates, strict=True):
            sums = neighbors(atoms, graph.edge_index, weight(radial))
            atoms = atoms + torch.tanh(update(sums))
        return self.energy(atoms).sum(1)


class PyGSchNet(AbstractEnergyModel):
    """SchNet of PyTorch Geometric, with the edges that the graph has."""

    framework = "pyg"

    def __init__(self, cutoff: float = 5.0, num_channels: int = 32, num_blocks: int = 2) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.schnet = SchNet(
            hidden_channels=num_channels,
            num_filters=num_channels,
            num_interactions=num_blocks,
            num_gaussians=20,
            cutoff=cutoff,
            # SchNet gives this what it is given as positions, and uses them for nothing else.
            interaction_graph=edges_of,
        )
        # Start near zero, where the element references are.
        nn.init.zeros_(self.schnet.lin2.bias)

    def forward(self, graph: Batch) -> torch.Tensor:
        """Return energies of the systems ``[B, 1]``."""
        return self.schnet(graph.atomic_numbers, graph, graph.batch)


def edges_of(graph: Batch, _batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return edges ``[2, E]`` and distances ``[E]``, periodic images included."""
    return graph.edge_index, graph.edge_distances


if __name__ == "__main__":
    train("pyg_networks.PyGSchNet")
