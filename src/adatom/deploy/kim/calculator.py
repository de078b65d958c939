"""Any portable model of KIM as an ASE calculator, without kimpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    Calculator,
    CalculatorSetupError,
    PropertyNotImplementedError,
    all_changes,
)

from adatom.deploy.kim.configuration import make_configuration
from adatom.deploy.kim.kim_model import KimModel
from adatom.deploy.kim.results import virial_of

#: ASE's names, and the quantity of KIM that each is made of.
_MADE_OF = {
    "energy": "partialEnergy",
    "free_energy": "partialEnergy",
    "energies": "partialParticleEnergy",
    "forces": "partialForces",
    "stress": "partialVirial",
    "stresses": "partialParticleVirial",
}


class KimCalculator(Calculator):
    """ASE calculator on an installed portable model of KIM.

    Energies in eV, ``forces`` in eV/angstrom, ``stress`` in eV/angstrom^3 (xx, yy, zz, yz, xz, xy;
    positive is tensile), ``stresses [N, 6]`` per atom where the model offers virials of atoms.
    What a model does not offer is not among ``implemented_properties``.

    Args:
        name: KIM's name of the model, or a :class:`KimModel` in angstrom and eV, which stays open
            when the calculator is closed.

    Raises:
        KimError: If the model cannot be opened.
    """

    def __init__(self, name: str | KimModel) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._owned = isinstance(name, str)
        self.model = KimModel(name) if isinstance(name, str) else name
        # Some models of KIM have no virial of their own; it follows from the forces.
        self._has_forces = "partialForces" in self.model.supported
        self.implemented_properties = [
            name
            for name, source in _MADE_OF.items()
            if source in self.model.supported or (name == "stress" and self._has_forces)
        ]

    def close(self) -> None:
        """Free the model."""
        if self._owned:
            self.model.close()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute energy, forces and stress, and what else is asked for.

        Raises:
            KimError: If the model fails.
            OutOfDomainError: If an element is unknown to the model.
            PropertyNotImplementedError: If a stress is asked for and the cell has no volume.
        """
        super().calculate(atoms, list(properties), list(system_changes))  # type: ignore[no-untyped-call]
        if self.atoms is None:
            raise CalculatorSetupError("The calculator was given no atoms")
        system = self.atoms
        volume = abs(float(np.linalg.det(system.cell.array)))
        if volume == 0 and {"stress", "stresses"} & set(properties):
            raise PropertyNotImplementedError("A cell without volume has no stress")
        configuration = make_configuration(
            system, self.model.species_codes, self.model.influence_distance
        )
        found = self.model.compute(configuration, self._wanted(properties))
        results: dict[str, Any] = {"energy": found.energy, "free_energy": found.energy}
        if found.forces is not None:
            results["forces"] = configuration.onto_atoms(found.forces)
        if found.particle_energies is not None:
            results["energies"] = configuration.onto_atoms(found.particle_energies)
        if volume and found.virial is not None:
            results["stress"] = found.virial / volume
        elif volume and found.forces is not None:
            results["stress"] = virial_of(found.forces, configuration.coordinates) / volume
        if volume and found.particle_virial is not None:
            results["stresses"] = configuration.onto_atoms(found.particle_virial) / volume
        self.results.update(results)

    def _wanted(self, properties: Sequence[str]) -> list[str]:
        """Return what to ask the model for; forces and virial come almost free."""
        asked = {_MADE_OF[name] for name in properties} | {"partialForces", "partialVirial"}
        return sorted((asked - {"partialEnergy"}) & set(self.model.supported))
