"""Whether a network that somebody wrote sees the periodic images of atoms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.graph.edges import Edges

#: Allowed change of the energy: in units of its last digit, and relative to the change where all
#: atoms are moved alike, which shows how the positions round.
_LAST_DIGITS = 300.0
_ROUNDING = 50.0
#: A greater relative change where all atoms are moved alike is no rounding.
_NOT_ROUNDING = 1e-3


def require_images(
    network: nn.Module, energies: Callable[[AtomicData], torch.Tensor], data: AtomicData
) -> None:
    """Refuse a network whose energy changes when atoms are moved by lattice vectors.

    The edges stay the same, with their image offsets changed accordingly, so a network that
    builds on edge vectors, or on positions, offsets and cell, gives the same energy. One that
    takes differences of positions for edges does not. Systems of a single atom cannot tell.
    Networks whose weights are spread over processes are left unchecked, because the other
    processes may not be at their first batch.

    Args:
        network: Put into evaluation mode meanwhile.
        energies: From a batch to the network's energies ``[N]`` of its atoms.
        data: A batch with edges and at least one periodic system.

    Raises:
        ConfigError: If the energy of a system changes.
    """
    from torch.distributed.tensor import DTensor

    if any(isinstance(weights, DTensor) for weights in network.parameters()):
        return
    every = torch.ones_like(data.batch)
    second = torch.arange(data.num_atoms, device=every.device) % 2
    with _evaluation(network), torch.no_grad():
        before = energies(data)
        together = energies(moved_by_cell(data, every))
        apart = energies(moved_by_cell(data, second))
    energy, scale = _of_systems(before, data), _of_systems(before.abs(), data)
    rounding = (_of_systems(together, data) - energy).abs()
    change = (_of_systems(apart, data) - energy).abs()
    digits = _LAST_DIGITS * torch.finfo(before.dtype).eps * scale
    wrong = (rounding > _NOT_ROUNDING * scale + digits) | (change > _ROUNDING * rounding + digits)
    if bool(wrong.any()):
        name, worst = type(network).__name__, int(torch.argmax((rounding + change) * wrong))
        raise ConfigError(
            f"{name} gives {data.sid[worst]!r} another energy when some or all atoms are moved by "
            f"lattice vectors (by {float(max(change[worst], rounding[worst])):.3g} of "
            f"{float(energy[worst]):.3g}), so it does not treat periodic images right",
            fix="Take the vectors of edges from edge_vectors instead of differences of positions, "
            f"or set ignores_images = True in {name} if this is meant.",
        )


def moved_by_cell(data: AtomicData, times: torch.Tensor) -> AtomicData:
    """Return the same systems with atoms moved by the sum of their periodic lattice vectors.

    Args:
        data: With edges.
        times: ``[N]`` int64; how often each atom is moved.
    """
    if data.edges is None:
        return data
    images = times[:, None] * data.pbc[data.batch]
    steps = torch.bmm(images.to(data.cell.dtype).unsqueeze(1), data.cell[data.batch]).squeeze(1)
    source, target = data.edges.index
    offsets = data.edges.offsets - images[source] + images[target]
    return replace(
        data, pos=data.pos + steps, edges=Edges(data.edges.index, offsets, data.edges.counts)
    )


def _of_systems(energies: torch.Tensor, data: AtomicData) -> torch.Tensor:
    totals = torch.zeros(data.num_systems, dtype=torch.float64, device=energies.device)
    return totals.index_add(0, data.batch, energies.double())


@contextmanager
def _evaluation(network: nn.Module) -> Iterator[None]:
    """Switch dropout and running averages off, and back to what they were."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
