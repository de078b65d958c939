"""Compare an exported model with the potential that it was made from, before it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from adatom.core.errors import AdatomError
from adatom.data.ase_convert import from_ase
from adatom.deploy.kim.configuration import Configuration, Floats, make_configuration
from adatom.deploy.kim.description import ModelDescription
from adatom.deploy.kim.emulator import Forward, emulate
from adatom.deploy.kim.inputs import DescriptorFunction
from adatom.deploy.kim.results import COLUMNS, ROWS, Results
from adatom.inference.predict_unit import MLIPPredictUnit

#: The file of a portable model's folder that holds some of what was compared.
SELF_TEST = "self_test.json"
#: By dtype of the network: the largest difference, in units of what is compared and relative to
#: the larger of 1 and the greatest value.
TOLERANCES: Mapping[str, float] = {"float64": 1e-10, "float32": 1e-4}


class ExportError(AdatomError, RuntimeError):
    """An exported model does not give what the potential gives."""


@dataclass(frozen=True)
class Expected:
    """What the potential gives for one structure.

    Attributes:
        energy: eV.
        energies: ``[atoms]`` eV.
        forces: ``[atoms, 3]`` eV/angstrom.
        virial: ``[6]`` eV, or None where the cell has no volume.
        virials: ``[atoms, 6]`` eV.
    """

    energy: float
    energies: Floats
    forces: Floats
    virial: Floats | None
    virials: Floats


def predict_natively(
    unit: MLIPPredictUnit, atoms: Atoms, dataset: str, charge: int, spin: int
) -> Expected:
    """Predict one structure in its cell, with shared edges and no ghosts."""
    told = atoms.copy()
    told.info = {"charge": charge, "spin": spin}
    data = from_ase(told, dataset=dataset, label_keys={})
    wanted = ["energy", "energies", "forces", "virials"]
    found = unit.predict(data, wanted)
    values = {name: found[name].double().cpu().numpy() for name in wanted}
    virials = values["virials"][:, ROWS, COLUMNS]
    volume = abs(float(np.linalg.det(atoms.cell.array)))
    return Expected(
        energy=float(values["energy"][0]),
        energies=values["energies"],
        forces=values["forces"],
        virial=virials.sum(axis=0) if volume else None,
        virials=virials,
    )


def require_agreement(
    forward: Forward,
    description: ModelDescription,
    structures: Mapping[str, Atoms],
    expected: Mapping[str, Expected],
    descriptor: DescriptorFunction | None = None,
) -> dict[str, float]:
    """Evaluate a model as the driver does, and compare.

    Args:
        forward: The exported model, read back from where it is to be shipped.
        description: What it takes and gives.
        structures: By kind.
        expected: What the potential gives for each.
        descriptor: Needed for the pattern ``"descriptor"``, which has no virials of atoms.

    Returns:
        The largest difference of each quantity, relative to the larger of 1 and its greatest
        value; energies per atom.

    Raises:
        ExportError: If one is larger than allowed, naming the structure.
        DataError: If the model breaks the contract, as by giving energies to ghosts.
    """
    tolerance = TOLERANCES[description.dtype]
    largest: dict[str, float] = {}
    for kind, atoms in structures.items():
        codes = {symbol: code for code, symbol in enumerate(description.species)}
        configuration = make_configuration(atoms, codes, description.influence_distance)
        with torch.set_grad_enabled(descriptor is not None):
            found = emulate(
                forward,
                description,
                configuration,
                particle_virial=descriptor is None,
                descriptor=descriptor,
            )
        for name, difference in _differences(found, configuration, expected[kind]):
            largest[name] = max(largest.get(name, 0.0), difference)
            # NaN is within no tolerance.
            if not difference <= tolerance:
                raise ExportError(
                    f"The exported model differs from the potential by {difference:.1e} in "
                    f"{name} ({kind}: {atoms.get_chemical_formula()})",
                    expected=f"at most {tolerance:.0e} in {description.dtype}",
                    fix="Nothing was written. If this is one of adatom's own networks, please "
                    "report it.",
                )
    return largest


def _differences(
    found: Results, configuration: Configuration, expected: Expected
) -> Iterator[tuple[str, float]]:
    count = configuration.num_atoms
    yield (
        "energy per atom",
        _relative(np.array(found.energy / count), np.array(expected.energy / count)),
    )
    if found.particle_energies is not None:
        own = configuration.onto_atoms(found.particle_energies)
        yield "energies of atoms", _relative(own, expected.energies)
    if found.forces is not None:
        yield "forces", _relative(configuration.onto_atoms(found.forces), expected.forces)
    if found.virial is not None and expected.virial is not None:
        yield "virial per atom", _relative(found.virial / count, expected.virial / count)
    if found.particle_virial is not None:
        shares = configuration.onto_atoms(found.particle_virial)
        yield "virials of atoms", _relative(shares, expected.virials)


def _relative(found: Floats, expected: Floats) -> float:
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    return float(np.abs(found - expected).max(initial=0.0)) / scale
