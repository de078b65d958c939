"""A look at energies that reference energies changed: were they of the kind that was assumed?"""

from __future__ import annotations

import numpy as np

from adatom.core.errors import DataError
from adatom.data.reference_energies import EnergyChoice
from adatom.data.structure_dataset import StructureDataset

#: Structures that are looked at.
_LOOKED_AT = 20


def check_choice(choice: EnergyChoice, systems: StructureDataset) -> None:
    """Refuse references for energies that are of the wanted kind already.

    A total energy is nearer to its reference than to zero: an adsorption energy is a few eV, that
    of a slab with some tens of atoms more than a hundred.

    Args:
        choice: With references.
        systems: Read with them.

    Raises:
        DataError: If the file's energies are not what they were taken for.
    """
    sizes, distances = [], []
    for i in range(min(_LOOKED_AT, len(systems))):
        system, info = systems.structure(i)
        shift = choice.shift(info.get(systems.sid_key), f"Structure {system.sid[0]!r}")
        reference = -shift if choice.kind == "adsorption" else shift
        for name in {"energy", "relaxed_energy"} & set(system.labels):
            in_file = float(system.labels[name]) - shift
            sizes.append(abs(in_file))
            distances.append(abs(in_file - reference))
    if not sizes:
        return
    are_total = float(np.median(distances)) < float(np.median(sizes))
    if are_total != (choice.kind == "adsorption"):
        raise DataError(
            f"The energies of {systems.path!r} are about {np.median(sizes):.4g} eV in the file and "
            f"look like {choice.kind} energies already",
            fix="Leave reference_energies out.",
        )
