"""A network of your own, from one class to training and dynamics.

The class below is all that is needed: `own_backbone.yaml` names it by its import path. Run it with
`python examples/own_backbone.py --output own`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import ase.io
import torch
from torch import nn

from adatom import AtomicData, MLIPCalculator, load_potential, run_md
from adatom.cli.main import main as adatom
from adatom.models.base import Backbone, Neighborhood, NodeFeatures

HERE = Path(__file__).parent


class RadialBackbone(Backbone):
    """Sees how many neighbors of which element are how far away, once.

    Args:
        cutoff: In angstrom.
        num_channels: C.
    """

    def __init__(self, cutoff: float = 5.0, num_channels: int = 16) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.max_neighbors = None
        self.num_message_layers = 1
        self.num_channels = num_channels
        self.reflection_invariant = True
        self.element = nn.Embedding(self.max_num_elements, num_channels)
        self.update = nn.Sequential(nn.Linear(num_channels, num_channels), nn.SiLU())

    def forward(self, data: AtomicData, edges: Sequence[Neighborhood]) -> NodeFeatures:
        """Return ``[N, C]`` scalars; geometry comes from the edges' vectors only."""
        atoms = self.element(data.atomic_numbers)
        distance = edges[0].vectors.norm(dim=1, keepdim=True)
        envelope = (1 - (distance / self.cutoff).clamp(max=1) ** 2) ** 3  # smooth at the cutoff
        centers = torch.linspace(1, self.cutoff, self.num_channels).to(distance)
        radial = torch.exp(-4 * (distance - centers) ** 2) * envelope
        messages = radial * atoms[edges[0].source]
        density = torch.zeros_like(atoms).index_add(0, edges[0].target, messages)
        return NodeFeatures(atoms + self.update(density))


def main() -> None:
    """Train the class from a configuration file, then run dynamics with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("own"), help="folder to write to")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    run = options.output / "run"
    # In a shell: PYTHONPATH=examples adatom s2ef fit --config examples/own_backbone.yaml
    command = ["s2ef", "fit", "--config", str(HERE / "own_backbone.yaml"), "--run_dir", str(run)]
    command += ["--data.train", str(HERE / "data" / "silicon_train.extxyz")]
    code = adatom([*command, "--trainer.max_epochs", str(options.epochs)])
    if code != 0:
        sys.exit(code)

    # A checkpoint names its class, but loads only what you allow.
    potential = load_potential(run / "best.safetensors", allow=["own_backbone.RadialBackbone"])
    [atoms] = ase.io.iread(HERE / "structures" / "silicon_64_300K.extxyz")
    result = run_md(atoms, MLIPCalculator(potential), steps=5)
    print(f"{result.steps} steps with {type(potential.backbone).__name__}")


if __name__ == "__main__":
    main()
