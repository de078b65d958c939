"""An installed portable model of KIM as the subject of verification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

    from adatom.deploy.kim.kim_model import KimModel
    from adatom.evaluate.verification import Subject
    from adatom.evaluate.verification.subject import InOtherUnits

#: KIM's names of a length and an energy.
UNIT_SYSTEMS = (("Bohr", "Hartree"), ("nm", "kcal_mol"))


def verify_kim_model(
    name: str,
    precision: Literal["double", "single"],
    checks: Sequence[str] | None,
    path: str | None,
) -> None:
    """Run the checks on an installed model, print the table and write the file.

    Raises:
        KimError: If the model cannot be opened.
        SystemExit: If a check failed.
    """
    from adatom.cli.verification_table import report
    from adatom.core.files import require_writable
    from adatom.deploy.kim.kim_model import KimModel
    from adatom.evaluate.verification import verify

    if path is not None:
        require_writable(path)
    with KimModel(name) as model:
        result = verify(kim_subject(model, precision), checks)
    report(result, path)


def kim_subject(model: KimModel, precision: Literal["double", "single"] = "double") -> Subject:
    """Describe an open model for the checks; threads share it, all else opens it anew."""
    from ase.calculators.calculator import Calculator

    from adatom.deploy.kim.calculator import KimCalculator
    from adatom.evaluate.verification import Subject

    def close(calculator: Calculator) -> None:
        if isinstance(calculator, KimCalculator):
            calculator.close()

    return Subject(
        name=model.name,
        species=tuple(model.species_codes),
        make=lambda: KimCalculator(model.name),
        for_threads=lambda count: [KimCalculator(model) for _ in range(count)],
        units={
            f"{length} and {energy}": _in_units(model.name, length, energy)
            for length, energy in UNIT_SYSTEMS
        },
        cutoff=max(model.cutoffs, default=None),
        precision=precision,
        close=close,
    )


def _in_units(name: str, length: str, energy: str) -> InOtherUnits:
    import numpy as np
    from ase import Atoms, units

    from adatom.deploy.kim.configuration import make_configuration
    from adatom.deploy.kim.kim_model import KimModel

    # What one angstrom and one eV are in these units.
    angstrom = {"Bohr": 1 / units.Bohr, "nm": 1 / units.nm}[length]
    electronvolt = {"Hartree": 1 / units.Hartree, "kcal_mol": units.mol / units.kcal}[energy]

    def compute(atoms: Atoms) -> tuple[float, np.ndarray]:
        with KimModel(name, length=length, energy=energy) as model:
            reach = model.influence_distance / angstrom
            particles = make_configuration(atoms, model.species_codes, reach)
            scaled = replace(particles, coordinates=particles.coordinates * angstrom)
            found = model.compute(scaled)
        forces = np.zeros((0, 3)) if found.forces is None else found.forces
        folded = particles.onto_atoms(forces) * angstrom / electronvolt
        return found.energy / electronvolt, folded

    return compute
