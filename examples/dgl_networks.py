"""Networks for graphs of DGL: your own, and one made of that library's layers.

Needs `pip install 'adatom[dgl]'`. Run it with `python examples/dgl_networks.py --output own`.
"""

from __future__ import annotations

import torch
from own_network import RadialNetwork, train
from torch import nn

from adatom.data.frameworks.import_dgl import import_dgl

# DGL 2.1 does not import with today's PyTorch unless a part is left out that is not needed here.
dgl = import_dgl(without_graphbolt=True)

from dgl import function as fn  # noqa: E402
from dgl.nn import NNConv  # noqa: E402


class DGLRadialNetwork(RadialNetwork):
    """The network of `own_network.py`, from a batched ``dgl.DGLGraph``."""

    framework = "dgl"

    def forward(self, graph: dgl.DGLGraph) -> torch.Tensor:
        """Return energies of the atoms ``[N]``."""
        atoms = self.element(graph.ndata["atomic_numbers"])
        radial = self.radial(graph.edata["edge_distances"])
        with graph.local_scope():
            for weight, update in zip(self.weights, self.updates, strict=True):
                graph.ndata["x"], graph.edata["w"] = atoms, weight(radial)
                graph.update_all(fn.u_mul_e("x", "w", "message"), fn.sum("message", "sums"))
                atoms = atoms + torch.tanh(update(graph.ndata["sums"]))
        return self.energy(atoms).sum(1)


class DGLMessagePassing(RadialNetwork):
    """DGL's layer for chemistry, ``NNConv``: a matrix for each edge, made from its distance."""

    framework = "dgl"

    def __init__(self, cutoff: float = 5.0, num_channels: int = 8, num_blocks: int = 2) -> None:
        super().__init__(cutoff, num_channels, num_blocks=0)  # its layers are other ones
        squared = num_channels**2
        # Without biases the messages vanish at the cutoff, as the functions of the distance do.
        self.convolutions = nn.ModuleList(
            NNConv(num_channels, num_channels, nn.Linear(num_channels, squared, bias=False), "sum")
            for _ in range(num_blocks)
        )

    def forward(self, graph: dgl.DGLGraph) -> torch.Tensor:
        """Return energies of the systems ``[B]``."""
        atoms = self.element(graph.ndata["atomic_numbers"])
        radial = self.radial(graph.edata["edge_distances"])
        for convolution in self.convolutions:
            atoms = atoms + torch.tanh(convolution(graph, atoms, radial))
        with graph.local_scope():
            graph.ndata["energy"] = self.energy(atoms).sum(1)
            return dgl.sum_nodes(graph, "energy")


if __name__ == "__main__":
    train("dgl_networks.DGLMessagePassing")
