"""Structures of the base's own levels of theory, trained on beside the new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from adatom.core.console import say
from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.tasks.potential import Potential
from adatom.training.finetuning.predictions import predicted


def choose_replay(
    systems: Sequence[AtomicData], num_new: int, ratio: float, seed: int
) -> list[AtomicData]:
    """Return the replay structures that are trained on, as many as the ratio says.

    Args:
        systems: The supplied set.
        num_new: Number of new structures.
        ratio: Replay structures per new structure.
        seed: Decides which, where there are more than needed.

    Raises:
        ConfigError: If the ratio is not positive.
    """
    if not ratio > 0.0:
        raise ConfigError(f"replay_ratio is {ratio}", expected="a positive number")
    wanted = max(1, round(ratio * num_new))
    if wanted > len(systems):
        say(
            f"The replay set has {len(systems)} structures, where {wanted} would be {ratio:g} for "
            f"each of the {num_new} new ones: all are used."
        )
    order = torch.randperm(len(systems), generator=torch.Generator().manual_seed(seed)).tolist()
    return [systems[i] for i in sorted(order[:wanted])]


def with_labels_of(base: Potential, systems: Sequence[AtomicData]) -> list[AtomicData]:
    """Return the structures with the base's predictions as their labels.

    Such a replay needs no calculation at the base's level of theory: it holds the potential where
    it was on these structures.

    Args:
        base: Not trained yet.
        systems: Single systems of its datasets; their labels are replaced.
    """
    labelled = []
    wanted = ("energy", "forces")
    for batch, values in predicted(base, systems, wanted):
        labels = {"energy": values["energy"].double(), "forces": values["forces"].double()}
        bare = replace(batch, edges=None, labels=labels)
        labelled += bare.unbatch()
    return labelled
