"""A graph network of your own, from one class with one forward to training and dynamics.

`own_network.yaml` names the class below by its import path. Run it with
`python examples/own_network.py --output own`. The same network for graphs of PyTorch Geometric and
of DGL, and networks from these libraries, are in `pyg_networks.py` and `dgl_networks.py`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import ase.io
import torch
from torch import nn

from adatom import MLIPCalculator, load_potential, run_md
from adatom.cli.main import main as adatom
from adatom.data.frameworks.plain_graph import PlainGraph
from adatom.models.energy_model import AbstractEnergyModel

HERE = Path(__file__).parent


class RadialNetwork(AbstractEnergyModel):
    """Messages from neighbors, weighted by functions of the distance that are learned."""

    def __init__(self, cutoff: float = 5.0, num_channels: int = 32, num_blocks: int = 2) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.element = nn.Embedding(self.max_num_elements, num_channels)
        layers = [nn.Linear(num_channels, num_channels, bias=False) for _ in range(2 * num_blocks)]
        self.weights, self.updates = map(nn.ModuleList, (layers[::2], layers[1::2]))
        self.energy = nn.Sequential(nn.Linear(num_channels, num_channels), nn.SiLU())

    def radial(self, distances: torch.Tensor) -> torch.Tensor:
        """Return Gaussians of the distances ``[E, C]`` that vanish smoothly at the cutoff."""
        x = distances[:, None] / self.cutoff
        centers = torch.linspace(0, 1, self.element.embedding_dim).to(x)
        return torch.exp(-50 * (x - centers) ** 2) * (1 - x.clamp(max=1) ** 2) ** 3

    def forward(self, graph: PlainGraph) -> torch.Tensor:
        """Return energies of the atoms ``[N]``."""
        source, target = graph.edge_index
        atoms, radial = self.element(graph.atomic_numbers), self.radial(graph.edge_distances)
        for weight, update in zip(self.weights, self.updates, strict=True):
            messages = weight(radial) * atoms[source]
            sums = torch.zeros_like(atoms).index_add(0, target, messages)
            atoms = atoms + torch.tanh(update(sums))
        return self.energy(atoms).sum(1)


def train(class_path: str) -> None:
    """Train a network from a configuration file, then run dynamics with it.

    Args:
        class_path: Where it is; `own_network.yaml` has everything else.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=Path("own"), help="folder to write to")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    run = options.output / "run"
    # In a shell: PYTHONPATH=examples adatom s2ef fit --config examples/own_network.yaml
    command = ["s2ef", "fit", "--config", str(HERE / "own_network.yaml"), "--run_dir", str(run)]
    command += ["--model.gnn", class_path, "--model.gnn.init_args.cutoff", "4.5"]
    command += ["--data.train", str(HERE / "data" / "acac_train.extxyz")]
    code = adatom([*command, "--trainer.max_epochs", str(options.epochs)])
    if code != 0:
        sys.exit(code)

    # A checkpoint names its class, but loads only what you allow.
    potential = load_potential(run / "best.safetensors", allow=[class_path])
    atoms = next(ase.io.iread(HERE / "data" / "acac_test.extxyz"))
    result = run_md(atoms, MLIPCalculator(potential), steps=5)
    print(f"{result.steps} steps with {class_path}")


if __name__ == "__main__":
    train("own_network.RadialNetwork")
