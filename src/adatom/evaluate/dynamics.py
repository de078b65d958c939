"""Measures of a molecular-dynamics trajectory: energy drift, radial distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from adatom.core.errors import DataError
from adatom.graph.neighbors import neighbor_list

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EnergyConservation:
    """How well a microcanonical run keeps its energy.

    Attributes:
        drift: Slope of a straight line through the total energy, times the length of the run,
            meV per atom.
        fluctuation: Standard deviation about that line, meV per atom.
        largest: Largest deviation from the first value, meV per atom.
    """

    drift: float
    fluctuation: float
    largest: float


def energy_conservation(total_energy: Array, num_atoms: int) -> EnergyConservation:
    """Measure the drift of the total energy along an NVE run.

    Args:
        total_energy: ``[T]`` eV at equal time steps.
        num_atoms: Atoms in the system.

    Raises:
        DataError: With fewer than three values.
    """
    if len(total_energy) < 3:
        raise DataError(f"{len(total_energy)} energies are too few", expected="at least three")
    energy = 1000.0 * (total_energy - total_energy[0]) / num_atoms
    time = np.linspace(0.0, 1.0, len(energy))
    slope, start = np.polyfit(time, energy, 1)
    return EnergyConservation(
        drift=float(slope),
        fluctuation=float((energy - slope * time - start).std()),
        largest=float(np.abs(energy).max()),
    )


def radial_distribution(
    frames: Sequence[Atoms], *, cutoff: float = 6.0, bins: int = 120
) -> tuple[Array, Array]:
    """Average the radial distribution function g(r) over periodic frames.

    Args:
        frames: Structures with a cell; the mean density is taken from their volume.
        cutoff: Largest distance in angstrom.
        bins: Number of intervals.

    Returns:
        Bin centers in angstrom and g(r), both ``[bins]``.

    Raises:
        DataError: No frames, or a frame without a volume.
    """
    if not frames:
        raise DataError("There are no frames to average over")
    edges = np.linspace(0.0, cutoff, bins + 1)
    shell = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    total = np.zeros(bins)
    for atoms in frames:
        if not atoms.cell.volume > 0.0:
            raise DataError("A frame has no volume", fix="Use distances() for a molecule.")
        density = len(atoms) / atoms.cell.volume
        total += np.histogram(distances(atoms, cutoff), edges)[0] / (len(atoms) * density * shell)
    return 0.5 * (edges[1:] + edges[:-1]), total / len(frames)


def distances(atoms: Atoms, cutoff: float) -> Array:
    """Return all pair distances within ``cutoff`` (angstrom), each pair in both directions."""
    pos = torch.as_tensor(atoms.positions)
    cell = torch.as_tensor(np.asarray(atoms.cell.array)).unsqueeze(0)
    edges = neighbor_list(pos, cell, torch.as_tensor(atoms.pbc).unsqueeze(0), cutoff)
    return np.asarray(edges.vectors(pos, cell).norm(dim=1), dtype=np.float64)
