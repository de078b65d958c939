"""Several heads on the same features, held as one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.models.base import Head, NodeFeatures


class Heads(Head):
    """Several heads, each for properties that no other one gives.

    Args:
        heads: From a name of your choice (part of the parameters' names) to the class path and
            constructor arguments of a head: ``{"class_path": ..., "init_args": {...}}``.

    Raises:
        ConfigError: If an entry is not a head, or two heads give the same property.
        UnknownNameError: If a class is not known.
    """

    def __init__(self, heads: dict[str, dict[str, Any]]) -> None:
        from adatom.models.registry import build

        super().__init__()
        self.heads = nn.ModuleDict()
        owner: dict[str, str] = {}
        for name, entry in heads.items():
            if not isinstance(entry, dict) or set(entry) != {"class_path", "init_args"}:
                raise ConfigError(
                    f"The head {name!r} is {entry!r}", expected="class_path and init_args"
                )
            head = build(entry["class_path"], entry["init_args"])
            if not isinstance(head, Head):
                raise ConfigError(
                    f"The head {name!r} is {entry['class_path']!r}", expected="a head"
                )
            for prop in head.gives:
                if prop in owner:
                    raise ConfigError(f"The heads {owner[prop]!r} and {name!r} both give {prop}")
                owner[prop] = name
            self.heads[name] = head
            self.mean_energy = self.mean_energy or head.mean_energy
        self.gives = tuple(owner)

    def forward(self, features: NodeFeatures, data: AtomicData) -> dict[str, torch.Tensor]:
        """Return the properties of all heads."""
        out: dict[str, torch.Tensor] = {}
        for head in self.heads.values():
            out |= head(features, data)
        return out
