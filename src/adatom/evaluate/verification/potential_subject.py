"""One of adatom's own potentials as the subject of verification."""

from __future__ import annotations

from ase.data import chemical_symbols

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.core.errors import ConfigError
from adatom.evaluate.verification.subject import Subject
from adatom.inference.predict_unit import MLIPPredictUnit


def potential_subject(
    unit: MLIPPredictUnit,
    name: str,
    task_name: str | None = None,
    *,
    charge: int | None = None,
    spin: int | None = None,
) -> Subject:
    """Describe a loaded potential for :func:`adatom.evaluate.verification.verify`.

    Args:
        unit: In float64 unless rounding errors are to be seen, too; its precision sets the limits.
        name: For the report.
        task_name: The level of theory, needed only if the potential has several.
        charge: Of all structures.
        spin: Multiplicity of all structures.

    Raises:
        ConfigError: If the task has to be chosen, is unknown, or predicts relaxed energies; if its
            weights are merged for one composition.
    """
    task = unit.resolve_task(task_name)
    domain = unit.potential.domains[task]
    if domain.composition is not None:
        raise ConfigError(
            f"{name} is merged for one composition, and the checks need several",
            fix="Verify the potential that it was made of.",
        )
    return Subject(
        name=f"{name} ({task})",
        species=tuple(chemical_symbols[number] for number in domain.elements),
        make=lambda: MLIPCalculator(unit, task, charge=charge, spin=spin),
        cutoff=float(unit.potential.cutoff),
        precision="double" if unit.dtype.itemsize == 8 else "single",
    )
