"""Errors of a potential on labelled structures: overall, by element, by configuration type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from adatom.core.errors import DataError, MissingLabelError
from adatom.data.atomic_data import AtomicData
from adatom.evaluate.errors import ErrorSummary, mean_cosine, summarize, summarize_vectors
from adatom.evaluate.pairs import Pairs, collect_pairs
from adatom.inference.predict_unit import MLIPPredictUnit


@dataclass(slots=True)
class Errors:
    """Errors of one group of structures or atoms; None where nothing is labelled.

    Attributes:
        energy_per_atom: eV per atom.
        forces: eV/angstrom, per component.
        force_vectors: eV/angstrom, lengths of the error vectors.
        force_cosine: Mean cosine between predicted and reference forces.
        stress: eV/angstrom^3, per component.
    """

    energy_per_atom: ErrorSummary | None = None
    forces: ErrorSummary | None = None
    force_vectors: ErrorSummary | None = None
    force_cosine: float | None = None
    stress: ErrorSummary | None = None


@dataclass(slots=True)
class Evaluation:
    """What :func:`evaluate` found.

    Attributes:
        model: Name of the potential.
        data: Name of the data.
        num_structures: How many structures were compared.
        num_atoms: How many atoms they have.
        overall: Errors over everything.
        baseline_rmse: Energy RMSE of the element references alone, eV per atom; None without
            energies. What a linear model in the composition reaches.
        by_element: Force errors by chemical symbol.
        by_group: Errors by configuration type.
        worst: Structures with the largest force (or energy) errors.
        pairs: The values behind the numbers, for plots; not part of the JSON.
    """

    model: str
    data: str
    num_structures: int
    num_atoms: int
    overall: Errors
    baseline_rmse: float | None
    by_element: dict[str, Errors]
    by_group: dict[str, Errors]
    worst: list[dict[str, Any]]
    pairs: Pairs = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the pairs as plain values."""
        plain = {name: getattr(self, name) for name in ("model", "data")}
        plain |= {"num_structures": self.num_structures, "num_atoms": self.num_atoms}
        plain["units"] = {"energy": "eV/atom", "forces": "eV/angstrom", "stress": "eV/angstrom^3"}
        plain["overall"] = asdict(self.overall)
        plain["baseline_rmse"] = self.baseline_rmse
        plain["by_element"] = {name: asdict(value) for name, value in self.by_element.items()}
        plain["by_group"] = {name: asdict(value) for name, value in self.by_group.items()}
        plain["worst"] = self.worst
        return plain


def evaluate(
    unit: MLIPPredictUnit,
    systems: Sequence[AtomicData],
    *,
    model: str = "potential",
    data: str = "data",
    groups: Sequence[str] | None = None,
) -> Evaluation:
    """Compare predictions with labels.

    Args:
        unit: The loaded potential.
        systems: Labelled structures; their ``dataset`` must be one of the potential's.
        model: Name for the report.
        data: Name for the report.
        groups: Configuration type of each structure, or None.

    Returns:
        Errors in eV per atom, eV/angstrom and eV/angstrom^3.

    Raises:
        DataError: No structures, or ``groups`` has another length.
        ConfigError: If the potential predicts relaxed energies.
        MissingLabelError: If no structure has an energy or forces.
    """
    if not len(systems):
        raise DataError("There are no structures to evaluate on")
    if groups is not None and len(groups) != len(systems):
        raise DataError(
            f"{len(groups)} group names were given for {len(systems)} structures",
            expected="one name per structure",
        )
    pairs, sids, num_atoms = collect_pairs(unit, systems)
    if not len(pairs.energy) and not len(pairs.forces):
        raise MissingLabelError(
            f"None of the {len(systems)} structures has an energy or forces",
            fix="Name the labels with --label_keys.",
        )
    return Evaluation(
        model=model,
        data=data,
        num_structures=len(systems),
        num_atoms=num_atoms,
        overall=_errors(pairs),
        baseline_rmse=_baseline(pairs),
        by_element=_by_element(pairs),
        by_group=_by_group(pairs, groups),
        worst=_worst(pairs, sids),
        pairs=pairs,
    )


def _errors(
    pairs: Pairs,
    energy_rows: NDArray[np.bool_] | slice = slice(None),
    force_rows: NDArray[np.bool_] | slice = slice(None),
    stress_rows: NDArray[np.bool_] | slice = slice(None),
) -> Errors:
    energy, forces = pairs.energy[energy_rows], pairs.forces[force_rows]
    stress = pairs.stress[stress_rows]
    found = Errors()
    if len(energy):
        found.energy_per_atom = summarize(energy[:, 0], energy[:, 1], centered=True)
    if len(forces):
        found.forces = summarize(forces[:, 0], forces[:, 1])
        found.force_vectors = summarize_vectors(forces[:, 0], forces[:, 1])
        found.force_cosine = mean_cosine(forces[:, 0], forces[:, 1])
    if len(stress):
        found.stress = summarize(stress[:, 0], stress[:, 1])
    return found


def _baseline(pairs: Pairs) -> float | None:
    if not len(pairs.energy):
        return None
    return float(np.sqrt(((pairs.baseline - pairs.energy[:, 1]) ** 2).mean()))


def _by_element(pairs: Pairs) -> dict[str, Errors]:
    nothing = slice(0, 0)
    return {
        chemical_symbols[z]: _errors(pairs, nothing, pairs.numbers == z, nothing)
        for z in np.unique(pairs.numbers)
    }


def _by_group(pairs: Pairs, groups: Sequence[str] | None) -> dict[str, Errors]:
    if groups is None:
        return {}
    names = np.asarray(groups)
    return {
        str(name): _errors(
            pairs,
            names[pairs.energy_structure] == name,
            names[pairs.force_structure] == name,
            names[pairs.stress_structure] == name,
        )
        for name in sorted(set(groups))
    }


def _worst(pairs: Pairs, sids: list[str], count: int = 10) -> list[dict[str, Any]]:
    """List the structures with the largest force errors (energy errors where forces lack)."""
    if len(pairs.forces):
        squared = ((pairs.forces[:, 0] - pairs.forces[:, 1]) ** 2).mean(axis=1)
        total = np.bincount(pairs.force_structure, weights=squared, minlength=len(sids))
        atoms = np.bincount(pairs.force_structure, minlength=len(sids))
        score, key = np.sqrt(total / np.maximum(atoms, 1)), "force_rmse"
    else:
        score, key = np.zeros(len(sids)), "energy_error_per_atom"
        score[pairs.energy_structure] = np.abs(pairs.energy[:, 0] - pairs.energy[:, 1])
    order = np.argsort(-score, kind="stable")[:count]
    return [{"sid": sids[i], key: float(score[i])} for i in order]
