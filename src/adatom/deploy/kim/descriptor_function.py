"""A descriptor as the emulator of the driver takes it."""

from __future__ import annotations

import torch

from adatom.deploy.kim.inputs import DescriptorFunction
from adatom.nn.descriptors.base import Descriptor


def descriptor_function(descriptor: Descriptor) -> DescriptorFunction:
    """Return what the driver computes of a descriptor file, in Python.

    Args:
        descriptor: With the species of the model in the order of their codes, in float64.
    """

    def values(
        species: torch.Tensor,
        coordinates: torch.Tensor,
        contributors: torch.Tensor,
        centers: torch.Tensor,
        neighbors: torch.Tensor,
    ) -> torch.Tensor:
        vectors = coordinates.index_select(0, neighbors) - coordinates.index_select(0, centers)
        found: torch.Tensor = descriptor(species, neighbors, centers, vectors)
        return found.index_select(0, contributors)

    return values
