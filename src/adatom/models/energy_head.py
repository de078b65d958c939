"""Per-atom energies from the invariant features."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from adatom.core.errors import unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Head, NodeFeatures
from adatom.nn.experts import MixedLinear
from adatom.nn.initialization import AFTER_SILU

#: Initial size of the last layer, so that training starts near the element references.
_LAST_GAIN = 0.1


class EnergyHead(Head):
    """Three linear layers with SiLU between, on each atom's scalars.

    Args:
        num_channels: C of the backbone.
        hidden_channels: H.
        dataset_mapping: If given, from each dataset name to the name of the level of theory that
            it is computed with; each level has its own weight matrices (biases are shared), in
            the order of the sorted level names.
    """

    def __init__(
        self,
        num_channels: int,
        hidden_channels: int,
        dataset_mapping: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.dataset_mapping = dict(dataset_mapping or {})
        levels = sorted(set(self.dataset_mapping.values()))
        self.expert_of = {name: levels.index(level) for name, level in self.dataset_mapping.items()}
        experts = len(levels)
        sizes = [
            (num_channels, hidden_channels, 1.0),
            (hidden_channels, hidden_channels, AFTER_SILU),
            (hidden_channels, 1, _LAST_GAIN * AFTER_SILU),
        ]
        layers = [
            # Experts are picked one at a time here, never averaged: undo that compensation.
            MixedLinear(a, b, num_experts=experts, gain=gain / max(experts, 1) ** 0.5)
            for a, b, gain in sizes
        ]
        self.energy_block = nn.Sequential(layers[0], nn.SiLU(), layers[1], nn.SiLU(), layers[2])

    def forward(self, features: NodeFeatures, data: AtomicData) -> torch.Tensor:
        """Return per-atom energies ``[N]`` in network units.

        Raises:
            UnknownNameError: If a system's dataset is not in ``dataset_mapping``.
        """
        if not self.dataset_mapping:
            return self._energies(features.scalars, None)
        for name in data.dataset:
            if name not in self.expert_of:
                raise unknown_name("dataset", name, self.expert_of)
        experts = [self.expert_of[name] for name in data.dataset]
        present = sorted(set(experts))
        if len(present) == 1:
            return self._energies(features.scalars, present[0])
        of_atom = torch.tensor(experts, device=data.batch.device)[data.batch]
        energies = features.scalars.new_zeros(features.scalars.shape[0])
        for expert in present:
            atoms = (of_atom == expert).nonzero().squeeze(1)
            own = self._energies(features.scalars[atoms], expert)
            energies = energies.index_copy(0, atoms, own)
        return energies

    def _energies(self, scalars: torch.Tensor, expert: int | None) -> torch.Tensor:
        hidden = scalars
        for i, layer in enumerate(self.energy_block):
            if isinstance(layer, MixedLinear):
                weight = layer.weight if expert is None else layer.weights[expert]
                hidden = functional.linear(hidden, weight, layer.bias)
            else:
                hidden = self.energy_block[i](hidden)
        return hidden.squeeze(1)
