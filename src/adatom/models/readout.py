"""The network that reads one number per atom from its invariant features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from adatom.core.errors import unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.nn.experts import MixedLinear
from adatom.nn.initialization import AFTER_SILU

#: Initial size of the last layer, so that training starts near the element references.
_LAST_GAIN = 0.1


class ScalarReadout(nn.Sequential):
    """Three linear layers with SiLU between, or a single one.

    Args:
        num_channels: C of the backbone.
        hidden_channels: H; None makes a single linear layer.
        dataset_mapping: If given, from each dataset name to the name of the level of theory that
            it is computed with; each level has its own weight matrices (biases are shared), in
            the order of the sorted level names.
    """

    def __init__(
        self,
        num_channels: int,
        hidden_channels: int | None,
        dataset_mapping: Mapping[str, str] | None = None,
    ) -> None:
        levels = sorted(set((dataset_mapping or {}).values()))
        experts = len(levels)

        def layer(inputs: int, outputs: int, gain: float) -> MixedLinear:
            # Experts are picked one at a time here, never averaged: undo that compensation.
            gain /= max(experts, 1) ** 0.5
            return MixedLinear(inputs, outputs, num_experts=experts, gain=gain)

        if hidden_channels is None:
            super().__init__(layer(num_channels, 1, _LAST_GAIN))
        else:
            super().__init__(
                layer(num_channels, hidden_channels, 1.0),
                nn.SiLU(),
                layer(hidden_channels, hidden_channels, AFTER_SILU),
                nn.SiLU(),
                layer(hidden_channels, 1, _LAST_GAIN * AFTER_SILU),
            )
        mapping = dict(dataset_mapping or {})
        self.expert_of = {name: levels.index(level) for name, level in mapping.items()}

    def read(self, scalars: torch.Tensor, data: AtomicData) -> torch.Tensor:
        """Return one number per atom.

        Args:
            scalars: ``[N, C]``.
            data: The batch; its datasets choose the weights.

        Returns:
            ``[N]``.

        Raises:
            UnknownNameError: If a system's dataset is not in ``dataset_mapping``.
        """
        if not self.expert_of:
            return self._numbers(scalars, None)
        for name in data.dataset:
            if name not in self.expert_of:
                raise unknown_name("dataset", name, self.expert_of)
        experts = [self.expert_of[name] for name in data.dataset]
        present = sorted(set(experts))
        if len(present) == 1:
            return self._numbers(scalars, present[0])
        of_atom = torch.tensor(experts, device=data.batch.device)[data.batch]
        numbers = scalars.new_zeros(scalars.shape[0])
        for expert in present:
            atoms = (of_atom == expert).nonzero().squeeze(1)
            numbers = numbers.index_copy(0, atoms, self._numbers(scalars[atoms], expert))
        return numbers

    def _numbers(self, scalars: torch.Tensor, expert: int | None) -> torch.Tensor:
        hidden = scalars
        for layer in self:
            if isinstance(layer, MixedLinear):
                weight = layer.weight if expert is None else layer.weights[expert]
                hidden = functional.linear(hidden, weight, layer.bias)
            else:
                hidden = layer(hidden)
        return hidden.squeeze(1)
