"""The calculator gives fairchem's numbers for official checkpoints, direct heads included."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from adatom.calculators.ase_calculator import MLIPCalculator
from adatom.inference.predict_unit import MLIPPredictUnit

FOLDER = Path(__file__).parents[1] / "checkpoint" / "official"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.pt")))
def test_recorded_numbers(name):
    entries = json.loads((FOLDER / f"{name}.json").read_text())["systems"]
    unit = MLIPPredictUnit.load(FOLDER / f"{name}.pt", dtype=torch.float64)
    for entry in entries.values():
        atoms = Atoms(
            entry["numbers"], entry["positions"], cell=entry["cell"], pbc=entry["pbc"],
            info={"charge": entry["charge"], "spin": entry["spin"]},
        )  # fmt: skip
        atoms.calc = MLIPCalculator(unit, entry["task"])
        expected = entry["float64"]
        energy = atoms.get_potential_energy()
        assert energy == pytest.approx(expected["energy"][0], abs=1e-9)
        np.testing.assert_allclose(atoms.get_forces(), expected["forces"], atol=1e-9)
        if "stress" in expected and atoms.cell.volume > 0:
            stress = np.reshape(expected["stress"], (3, 3))
            np.testing.assert_allclose(atoms.get_stress(voigt=False), stress, atol=1e-10)


def test_what_a_direct_potential_does_not_give_is_said():
    unit = MLIPPredictUnit.load(FOLDER / "esen_direct.pt")
    calculator = MLIPCalculator(unit, "omol", charge=0, spin=1)
    assert calculator.implemented_properties == ["energy", "free_energy", "energies", "forces"]
    atoms = Atoms("OH2", [[0, 0, 0], [0.76, 0, 0.59], [-0.76, 0, 0.59]])
    for name in ("stress", "hessian"):
        with pytest.raises(PropertyNotImplementedError, match=name):
            calculator.get_property(name, atoms)
