"""Energies and forces of a batch, where a structure that cannot be computed fails alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from adatom.calculators.unit_of import neighbors_of
from adatom.core.errors import AdatomError, ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.simulate.batched.rows import STRUCTURE_ERRORS, take_systems


@dataclass(slots=True)
class Evaluated:
    """Results of a batch, float64; NaN where a structure failed or has no such property.

    Attributes:
        energy: ``[B]`` in eV.
        forces: ``[N, 3]`` in eV/angstrom.
        stress: ``[B, 3, 3]`` in eV/angstrom^3, positive is tensile; None if it was not asked for.
        edges: Edges of each system.
        errors: Why a system failed, by its place in the batch.
    """

    energy: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor | None
    edges: list[int]
    errors: dict[int, Exception] = field(default_factory=dict)


class Evaluator:
    """Computes batches of systems that move a little from call to call.

    Args:
        unit: The predict unit.
        skin: Verlet skin in angstrom.

    Raises:
        ConfigError: If the unit has several workers.
    """

    def __init__(self, unit: MLIPPredictUnit, skin: float = 0.5) -> None:
        self._unit = unit
        neighbors = neighbors_of(unit, skin)
        if neighbors is None:
            raise ConfigError(
                "Several workers compute one structure at a time, not batches",
                fix="Use one worker, or a loop over the structures.",
            )
        self._neighbors = neighbors

    def evaluate(self, systems: AtomicData, names: Sequence[str]) -> Evaluated:
        """Compute a batch.

        Args:
            systems: Without edges; those of one composition next to each other.
            names: ``energy``, ``forces`` and perhaps ``stress``.

        Returns:
            The results; what is wrong with one structure is among its ``errors``.
        """
        try:
            edges = self._neighbors.edges(systems.pos, systems.cell, systems.pbc, systems.natoms)
            return self._predicted(replace(systems, edges=edges), names)
        except STRUCTURE_ERRORS:
            return self._apart(systems, names)

    def _apart(self, systems: AtomicData, names: Sequence[str]) -> Evaluated:
        """Find who is to blame by halving, so that all others have their results."""
        count = systems.num_systems
        try:
            potential = self._unit.potential
            bare = systems.with_edges(potential.cutoff, max_neighbors=potential.max_neighbors)
            return self._predicted(bare, names)
        except STRUCTURE_ERRORS as error:
            if count == 1:
                return _failed(systems, names, error)
        half = count // 2
        first = self._apart(take_systems(systems, range(half)), names)
        second = self._apart(take_systems(systems, range(half, count)), names)
        return _joined(first, second, half)

    def _predicted(self, systems: AtomicData, names: Sequence[str]) -> Evaluated:
        prediction = self._unit.predict(systems, names)
        stress = None
        if "stress" in names:
            stress = systems.cell.new_full((systems.num_systems, 3, 3), torch.nan)
            if "stress" in prediction:
                stress = prediction["stress"].double()
        return Evaluated(
            prediction["energy"].double(),
            prediction["forces"].double(),
            stress,
            [] if systems.edges is None else systems.edges.counts.tolist(),
        )


def _failed(system: AtomicData, names: Sequence[str], error: Exception) -> Evaluated:
    pos, cell = system.pos, system.cell
    return Evaluated(
        pos.new_full((1,), torch.nan),
        torch.full_like(pos, torch.nan),
        torch.full_like(cell, torch.nan) if "stress" in names else None,
        [0],
        {0: error},
    )


def _joined(first: Evaluated, second: Evaluated, start: int) -> Evaluated:
    stress = None
    if first.stress is not None and second.stress is not None:
        stress = torch.cat([first.stress, second.stress])
    return Evaluated(
        torch.cat([first.energy, second.energy]),
        torch.cat([first.forces, second.forces]),
        stress,
        first.edges + second.edges,
        first.errors | {start + i: error for i, error in second.errors.items()},
    )


def reason(error: Exception) -> str:
    """Return what was found, without the advice that concerns another situation."""
    return error.found if isinstance(error, AdatomError) else str(error).splitlines()[0]
