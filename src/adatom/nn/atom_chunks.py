"""Maps of each atom's own features, applied to some atoms at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

#: Atoms at a time on a processor, and elsewhere.
_CPU_ATOMS, _DEVICE_ATOMS = 64, 8192

#: From the features ``[n, ...]`` of the atoms in a slice to new ones.
AtomMap = Callable[[torch.Tensor, slice], torch.Tensor]


def atom_chunks(features: torch.Tensor) -> Iterator[slice]:
    """Divide the atoms (the first axis) so that a map needs little memory at a time."""
    size = _CPU_ATOMS if features.device.type == "cpu" else _DEVICE_ATOMS
    for start in range(0, features.shape[0], size):
        yield slice(start, min(start + size, features.shape[0]))


def map_chunks(function: AtomMap, features: torch.Tensor) -> torch.Tensor:
    """Return ``function`` of all atoms, without a graph."""
    out = torch.empty_like(features)
    with torch.no_grad():
        for atoms in atom_chunks(features):
            out[atoms] = function(features[atoms], atoms)
    return out


def map_chunks_adjoint(function: AtomMap, inputs: AtomMap, gradient: torch.Tensor) -> None:
    """Replace the gradient of a map's outputs by that of its inputs, in place.

    Args:
        function: The map.
        inputs: Makes the inputs of the atoms in a slice; its first argument is not used.
        gradient: ``[N, ...]``.
    """
    for atoms in atom_chunks(gradient):
        with torch.no_grad():
            own = inputs(gradient[atoms], atoms)
        own = own.detach().requires_grad_()
        with torch.enable_grad():
            result = function(own, atoms)
        (gradient[atoms],) = torch.autograd.grad(result, own, gradient[atoms])
