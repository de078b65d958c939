"""Every preset gives the recorded numbers of the official tiny checkpoints, singly and batched."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms

from adatom.checkpoint.format import load_potential
from adatom.data.ase_convert import from_ase
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.inference.settings import PRESETS

#: eV, eV/angstrom, eV/angstrom^3.
TOLERANCES = {
    torch.float64: {"energy": 1e-9, "forces": 1e-9, "stress": 1e-10},
    torch.float32: {"energy": 1e-5, "forces": 1e-5, "stress": 1e-6},
}
RECORDS = {
    "tiny_uma.pt": "reference_tiny_uma.json",
    "tiny_uma_moehead.pt": "reference_tiny_uma_moehead.json",
    "tiny_uma_l4m2.pt": "reference_tiny_uma_l4m2.json",
}
EXECUTIONS = ("general", "tiled", "compiled")


def system_of(entry, sid):
    # The record completes an absent cell to 1 cubic angstrom, so its stress is the virial.
    cell = entry["cell"] if np.any(entry["cell"]) else np.eye(3)
    atoms = Atoms(entry["numbers"], positions=entry["positions"], cell=cell, pbc=entry["pbc"])
    atoms.info |= {"charge": entry["charge"], "spin": entry["spin"]}
    return from_ase(atoms, dataset=entry["task"], sid=sid)


@cache
def loaded(path, dtype):
    return load_potential(path, dtype=dtype)


def agrees(found, recorded, dtype):
    for name, tolerance in TOLERANCES[dtype].items():
        expected = torch.tensor(recorded[name], dtype=torch.float64).view(found[name].shape)
        deviation = float((found[name].double() - expected).abs().max())
        assert deviation <= tolerance, (name, deviation)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=["float64", "float32"])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("checkpoint", RECORDS)
@pytest.mark.filterwarnings("ignore::adatom.inference.engine.InferenceWarning")
def test_recorded_numbers_in_every_preset(shared, checkpoint, preset, dtype):
    folder = shared / "reference" / "uma_tiny"
    record = json.loads((folder / RECORDS[checkpoint]).read_text())
    unit = MLIPPredictUnit(loaded(folder / checkpoint, dtype), preset, dtype=dtype)
    precision = str(dtype).removeprefix("torch.")
    systems = {name: system_of(entry, name) for name, entry in record["systems"].items()}
    for name, system in systems.items():
        agrees(unit.predict(system), record["systems"][name][precision], dtype)
    batch = record["batch_of_three"][precision]
    agrees(unit.predict([systems[name] for name in batch["systems"]]), batch, dtype)
    assert unit.explain().count("not trusted") == 0


@pytest.mark.parametrize("merged", [False, True], ids=["experts", "merged"])
@pytest.mark.parametrize("lean", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.filterwarnings("ignore::adatom.inference.engine.InferenceWarning")
def test_recorded_numbers_in_every_execution(shared, execution, lean, merged):
    folder = shared / "reference" / "uma_tiny"
    record = json.loads((folder / "reference_tiny_uma.json").read_text())
    settings = {
        "execution_mode": execution,
        "merge_mole": merged,
        "activation_checkpointing": lean,
        "edge_chunk_size": 37 if lean else None,
    }
    unit = MLIPPredictUnit(loaded(folder / "tiny_uma.pt", torch.float64), settings)
    if unit.potential.backbone.unavailable(execution) is not None:
        pytest.skip(unit.potential.backbone.unavailable(execution))
    for name, entry in record["systems"].items():
        agrees(unit.predict(system_of(entry, name)), entry["float64"], torch.float64)
    assert f"Execution '{execution}'" in unit.explain()


def test_merged_equals_unmerged_in_float64(shared):
    folder = shared / "reference" / "uma_tiny"
    record = json.loads((folder / "reference_tiny_uma.json").read_text())
    potential = loaded(folder / "tiny_uma.pt", torch.float64)
    for name, entry in record["systems"].items():
        system = system_of(entry, name)
        plain = MLIPPredictUnit(potential, "traineval").predict(system)
        merged = MLIPPredictUnit(potential, "turbo").predict(system)
        torch.testing.assert_close(merged["energy"], plain["energy"], rtol=0, atol=1e-9)
        torch.testing.assert_close(merged["forces"], plain["forces"], rtol=0, atol=1e-9)
