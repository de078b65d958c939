"""Every preset gives fairchem's numbers for official checkpoints with all kinds of options.

See ``tests/checkpoint/test_official_options.py`` for the files and what can be compared.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ase import Atoms

from adatom.data.ase_convert import from_ase
from adatom.inference.predict_unit import MLIPPredictUnit

FOLDER = Path(__file__).parents[1] / "checkpoint" / "official"
NAMES = sorted(path.stem for path in FOLDER.glob("*.pt"))
PROPERTIES = ("energy", "forces", "stress")
TOLERANCES = {"energy": 1e-9, "forces": 1e-9, "stress": 1e-10}


def system_of(entry, sid):
    atoms = Atoms(
        entry["numbers"], positions=entry["positions"], cell=entry["cell"], pbc=entry["pbc"]
    )
    atoms.info |= {"charge": entry["charge"], "spin": entry["spin"]}
    return from_ase(atoms, dataset=entry["task"], sid=sid)


# Said by "turbo" when the next structure comes; here it is meant to change.
@pytest.mark.filterwarnings("ignore:The composition, charge, spin or dataset changed")
@pytest.mark.parametrize("preset", ["default", "batch", "turbo", "high-precision"])
@pytest.mark.parametrize("name", NAMES)
def test_recorded_numbers_in_every_preset(name, preset):
    check_all(MLIPPredictUnit.load(FOLDER / f"{name}.pt", preset, dtype=torch.float64), name)


@pytest.mark.parametrize("execution", ["general", "tiled", "compiled"])
@pytest.mark.parametrize("name", NAMES)
def test_recorded_numbers_in_every_execution(name, execution):
    settings = {"execution_mode": execution}
    unit = MLIPPredictUnit.load(FOLDER / f"{name}.pt", settings, dtype=torch.float64)
    reason = unit.potential.backbone.unavailable(execution)
    if reason is not None:
        pytest.skip(reason)
    check_all(unit, name)
    assert unit._runner.engine.mode == execution


def check_all(unit, name):
    entries = json.loads((FOLDER / f"{name}.json").read_text())["systems"]
    for sid, entry in entries.items():
        names = [prop for prop in PROPERTIES if prop in entry["float64"]]
        found = unit.predict(system_of(entry, sid), names)
        for prop in names:
            expected = torch.tensor(entry["float64"][prop], dtype=torch.float64)
            error = float((found[prop] - expected.view(found[prop].shape)).abs().max())
            assert error <= TOLERANCES[prop], (sid, prop, error)
