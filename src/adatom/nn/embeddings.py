"""Embeddings of what a system is: charge, spin multiplicity and dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from adatom.core.errors import ConfigError, DataError, unknown_name
from adatom.core.traced_input import traced_input
from adatom.nn.initialization import linear

#: The choices of ``chg_spin_emb_type``.
EMBEDDING_KINDS = ("rand_emb", "pos_emb", "lin_emb")

_MAX_CHARGE = 100
_MAX_SPIN = 100
#: What an unknown spin (0) becomes for the linear embedding.
_NO_SPIN = -100


class ChargeSpinEmbedding(nn.Module):
    """Embed an integer of each system.

    ``rand_emb`` looks up a trained table (charges -100..100, spins 0..100), ``pos_emb`` takes
    sines and cosines at fixed random frequencies, ``lin_emb`` is linear in the number. Spin 0
    means "not given" and has its own value.

    Args:
        kind: Among :data:`EMBEDDING_KINDS`.
        quantity: What is embedded.
        channels: C; even for ``pos_emb``.

    Raises:
        UnknownNameError: If ``kind`` is not known.
        ConfigError: If ``channels`` is odd for ``pos_emb``.
    """

    def __init__(self, kind: str, quantity: Literal["charge", "spin"], channels: int) -> None:
        super().__init__()
        if kind not in EMBEDDING_KINDS:
            raise unknown_name("chg_spin_emb_type", kind, EMBEDDING_KINDS)
        self.kind = kind
        self.quantity = quantity
        if kind == "rand_emb":
            size = 2 * _MAX_CHARGE + 1 if quantity == "charge" else _MAX_SPIN + 1
            self.rand_emb = nn.Embedding(size, channels)
        elif kind == "lin_emb":
            self.lin_emb = linear(1, channels)
        else:
            if channels % 2:
                raise ConfigError(f"pos_emb with {channels} channels", expected="an even number")
            self.W = nn.Parameter(torch.randn(channels // 2), requires_grad=False)

    def forward(self, values: torch.Tensor, sids: Sequence[str]) -> torch.Tensor:
        """Embed one integer per system.

        Args:
            values: ``[B]`` int64.
            sids: Names of the systems, for messages.

        Returns:
            ``[B, C]``.

        Raises:
            DataError: If a value is outside the table of ``rand_emb``.
        """
        if self.kind == "rand_emb":
            return self._lookup(values, sids)
        if self.kind == "lin_emb":
            number = self.effective(values).to(self.lin_emb.weight.dtype)
            embedded: torch.Tensor = self.lin_emb(number.unsqueeze(1))
            return embedded
        phase = 2 * math.pi * values.to(self.W.dtype).unsqueeze(1) * self.W
        waves = torch.cat([torch.sin(phase), torch.cos(phase)], dim=1)
        if self.quantity == "spin":
            waves = torch.where(values.unsqueeze(1) == 0, 0.0, waves)
        return waves

    def effective(self, values: torch.Tensor) -> torch.Tensor:
        """Return the numbers that are embedded.

        They are those given, but for ``lin_emb`` an unknown spin becomes -100. The published
        models write that number into their input, so that later uses of the spin see it too.
        """
        if self.kind == "lin_emb" and self.quantity == "spin":
            return torch.where(values == 0, _NO_SPIN, values)
        return values

    def _lookup(self, values: torch.Tensor, sids: Sequence[str]) -> torch.Tensor:
        low, high = (-_MAX_CHARGE, _MAX_CHARGE) if self.quantity == "charge" else (0, _MAX_SPIN)
        outside = (values < low) | (values > high)
        if traced_input() is None and bool(outside.any()):
            system = int(outside.nonzero()[0])
            raise DataError(
                f"Structure {sids[system]!r} has {self.quantity} {int(values[system])}",
                expected=f"a value from {low} to {high}",
            )
        embedded: torch.Tensor = self.rand_emb(values - low)
        return embedded


class DatasetEmbedding(nn.Module):
    """One trained vector per dataset.

    Args:
        channels: C.
        mapping: From each dataset name that data may carry to the name whose vector it uses.

    Raises:
        ConfigError: If a name contains a dot (it becomes part of a parameter's name).
    """

    def __init__(self, channels: int, mapping: Mapping[str, str]) -> None:
        super().__init__()
        self.mapping = dict(mapping)
        for name in self.mapping.values():
            if "." in name:
                raise ConfigError(f"Dataset name {name!r}", expected="a name without dots")
        names = list(dict.fromkeys(self.mapping.values()))
        self.index = {name: i for i, name in enumerate(names)}
        self.dataset_emb_dict = nn.ModuleDict({name: nn.Embedding(1, channels) for name in names})

    def indices(self, datasets: Sequence[str]) -> list[int]:
        """Return the number of the vector that each dataset name uses.

        Raises:
            UnknownNameError: If a name is not in the mapping.
        """
        for name in datasets:
            if name not in self.mapping:
                raise unknown_name("dataset", name, self.mapping)
        return [self.index[self.mapping[name]] for name in datasets]

    def forward(self, datasets: Sequence[str]) -> torch.Tensor:
        """Return ``[B, C]`` for one dataset name per system."""
        rows = self.indices(datasets)
        table = torch.cat([module.weight for module in self.dataset_emb_dict.values()])  # type: ignore[misc]
        return table[torch.tensor(rows, device=table.device)]
