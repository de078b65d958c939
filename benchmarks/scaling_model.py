"""What to expect of many GPUs: counted bytes and operations over assumed links.

A model, not a measurement. Counted are the atoms of the halo of one worker (a real partition of a
real crystal), the bytes of features that it sends per step, and the operations per step. Assumed
are the constants below, and the time of a worker's own computation, for which the published
step of fairchem-core at the smallest number of GPUs is taken, so that only the loss from
communication is compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from ase.build import bulk

from adatom.graph.neighbors import find_backend
from adatom.graph.partition import spatial_partition
from adatom.graph.periodic_systems import PeriodicSystems
from adatom.graph.search_into import candidates_into

#: Bytes per second that a GPU sends within a node (NVLink, half of its peak) and between nodes (one
#: 400 Gbit/s adapter per GPU, four fifths of its peak).
WITHIN_NODE, BETWEEN_NODES = 200e9, 40e9
GPUS_PER_NODE = 8
#: Seconds until an exchange with the neighbors begins, and per doubling of the workers in a sum.
EXCHANGE_START, SUM_START = 100e-6, 15e-6
#: Published by fairchem for H200 GPUs and fcc carbon, nanoseconds per day at 1 fs, by atoms per GPU
#: and GPUs: all-gather, then all-to-all over a spatial partition (shared/reference/uma.md).
PUBLISHED: dict[int, dict[int, tuple[float, float]]] = {
    4000: {
        8: (0.651, 0.670),
        16: (0.610, 0.626),
        32: (0.568, 0.623),
        64: (0.477, 0.570),
        128: (0.359, 0.498),
        256: (0.246, 0.433),
    },
    1000: {8: (2.088, 2.010), 16: (2.043, 1.990), 32: (1.769, 1.848), 64: (1.488, 1.626)},
}
_LATTICE = 3.8


@dataclass(frozen=True)
class Traffic:
    """What one worker exchanges per step.

    Attributes:
        row_bytes: Of one atom's features.
        layers: Exchanges of features, forward; as many go back.
        exchanges: All operations with neighbors.
        sums: All sums over the workers.
    """

    row_bytes: int
    layers: int
    exchanges: int
    sums: int


def step_seconds(nanoseconds_per_day: float) -> float:
    """Return the time of one step of 1 fs."""
    return 86.4e-3 / nanoseconds_per_day


def halo_atoms(atoms_per_worker: int, workers: int, reach: float) -> int:
    """Return the largest halo among three workers of a crystal of fcc carbon.

    Args:
        atoms_per_worker: About.
        workers: Number of workers.
        reach: Cutoff and skin, angstrom.
    """
    repeats = round((atoms_per_worker * workers / 4) ** (1 / 3))
    crystal = bulk("C", "fcc", a=_LATTICE, cubic=True) * (repeats, repeats, repeats)
    generator = torch.Generator().manual_seed(1)
    pos = torch.from_numpy(crystal.positions)
    pos = pos + 0.05 * torch.randn(pos.shape, generator=generator, dtype=pos.dtype)
    cell = torch.from_numpy(crystal.cell.array).unsqueeze(0)
    systems = PeriodicSystems.checked(pos, cell, torch.ones(1, 3, dtype=torch.bool))
    owner = spatial_partition(systems, reach, workers)
    largest = 0
    for rank in (0, workers // 2, workers - 1):
        own = (owner == rank).nonzero().squeeze(1)
        found = candidates_into(systems, own, reach, find_backend("auto"))
        needed = torch.unique(found.source)
        largest = max(largest, int((owner[needed] != rank).sum()))
    return largest


def communication_seconds(traffic: Traffic, halo: int, workers: int, atoms: int) -> float:
    """Return the time of a step in which nothing is computed.

    Args:
        traffic: Of one worker.
        halo: Atoms in its halo.
        workers: Number of workers.
        atoms: Of the system; worker 0 receives their forces and energies.
    """
    bandwidth = WITHIN_NODE if workers <= GPUS_PER_NODE else BETWEEN_NODES
    features = 2 * traffic.layers * halo * traffic.row_bytes
    results = atoms * (3 * 4 + 4)
    doublings = max(workers - 1, 1).bit_length()
    return (
        (features + results) / bandwidth
        + traffic.exchanges * EXCHANGE_START
        + traffic.sums * SUM_START * doublings
    )


def expected_rows(traffic: Traffic, reach: float) -> list[list[object]]:
    """Return the rows of the table: ours as expected, and what was published."""
    rows: list[list[object]] = []
    for atoms, published in PUBLISHED.items():
        smallest = min(published)
        anchor = step_seconds(published[smallest][1])
        own_work = 0.0
        for workers, (gathered, exchanged) in published.items():
            halo = halo_atoms(atoms, workers, reach)
            talk = communication_seconds(traffic, halo, workers, atoms * workers)
            own_work = own_work or anchor - talk
            rows.append(
                [
                    workers,
                    atoms,
                    halo,
                    2e-6 * traffic.layers * halo * traffic.row_bytes,
                    1e3 * talk,
                    100.0 * anchor / (own_work + talk),
                    100.0 * exchanged / published[smallest][1],
                    100.0 * gathered / published[smallest][0],
                ]
            )
    return rows
