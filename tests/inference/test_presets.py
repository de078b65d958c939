"""Official tiny checkpoints give the recorded numbers, however they are computed.

That is: in every preset; in every execution (plain autograd, tiles in PyTorch, the compiled
kernel), with experts merged and not, with intermediates kept and computed again; singly and in
batches. Each test also looks at who computed, so that no path passes by handing on its work.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms

from adatom.checkpoint.format import load_potential
from adatom.data.ase_convert import from_ase
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.inference.settings import PRESETS
from adatom.models import escn_md
from adatom.models.escn_kernel.kernel import CompiledBackbone

#: eV, eV/angstrom, eV/angstrom^3.
TOLERANCES = {
    torch.float64: {"energy": 1e-9, "forces": 1e-9, "stress": 1e-10},
    torch.float32: {"energy": 1e-5, "forces": 1e-5, "stress": 1e-6},
}
# The fourth file has no record of its own: its weights are those of the first, byte for byte.
RECORDS = {
    "tiny_uma.pt": "reference_tiny_uma.json",
    "tiny_uma_moehead.pt": "reference_tiny_uma_moehead.json",
    "tiny_uma_l4m2.pt": "reference_tiny_uma_l4m2.json",
    "tiny_uma_1p1style_dcp.pt": "reference_tiny_uma.json",
}
# Hence its numbers are computed again only on demand; that it loads the same is tested elsewhere.
CHECKPOINTS = [
    pytest.param(name, marks=pytest.mark.slow if "dcp" in name else ()) for name in RECORDS
]
# Another head computes energies from the same backbone.
BACKBONES = [
    pytest.param(
        name, marks=() if name in ("tiny_uma.pt", "tiny_uma_l4m2.pt") else pytest.mark.slow
    )
    for name in RECORDS
]
EXECUTIONS = ("general", "tiled", "compiled")

# Said by merged units when the next structure comes; here it is meant to change.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The composition, charge, spin or dataset changed",
    "ignore:A batch has several compositions",
)


def system_of(entry, sid):
    # The record completes an absent cell to 1 cubic angstrom, so its stress is the virial.
    cell = entry["cell"] if np.any(entry["cell"]) else np.eye(3)
    atoms = Atoms(entry["numbers"], positions=entry["positions"], cell=cell, pbc=entry["pbc"])
    atoms.info |= {"charge": entry["charge"], "spin": entry["spin"]}
    return from_ase(atoms, dataset=entry["task"], sid=sid)


@pytest.fixture
def folder(shared):
    return shared / "reference" / "uma_tiny"


@cache
def loaded(path, dtype):
    return load_potential(path, dtype=dtype)


@cache
def recorded(path):
    record = json.loads(path.read_text())
    systems = {name: system_of(entry, name) for name, entry in record["systems"].items()}
    return record, systems


def reason_against(execution, potential):
    """Return why an execution cannot be had here; weights have to be frozen for most."""
    return MLIPPredictUnit(potential).potential.backbone.unavailable(execution)


def available(path, dtype, execution):
    """Load a potential, or skip where it has no such execution."""
    potential = loaded(path, dtype)
    reason = reason_against(execution, potential)
    if reason is not None:
        pytest.skip(reason)
    return potential


@pytest.fixture
def computed_by(monkeypatch):
    """Count the calls of the two fast paths."""
    calls = Counter()
    tiled, compiled = escn_md.tiled_features, CompiledBackbone.features

    def count_tiled(*arguments):
        calls["tiled"] += 1
        return tiled(*arguments)

    def count_compiled(*arguments):
        calls["compiled"] += 1
        return compiled(*arguments)

    monkeypatch.setattr(escn_md, "tiled_features", count_tiled)
    monkeypatch.setattr(CompiledBackbone, "features", count_compiled)
    return calls


def agrees(found, expected, dtype):
    for name, tolerance in TOLERANCES[dtype].items():
        values = torch.tensor(expected[name], dtype=torch.float64).view(found[name].shape)
        deviation = float((found[name].double() - values).abs().max())
        assert deviation <= tolerance, (name, deviation)


def check_all(unit, path, calls):
    """Compare every record of a file, and return which fast paths computed."""
    record, systems = recorded(path)
    precision = str(unit.dtype).removeprefix("torch.")
    for name, system in systems.items():
        if unit.settings.merge_mole:
            # Merged is what comes twice.
            unit.predict(system)
        agrees(unit.predict(system), record["systems"][name][precision], unit.dtype)
    batch = record["batch_of_three"][precision]
    agrees(unit.predict([systems[name] for name in batch["systems"]]), batch, unit.dtype)
    assert "not trusted" not in unit.explain()
    predictions = len(systems) * (2 if unit.settings.merge_mole else 1) + 1
    assert all(count >= predictions for count in calls.values())
    return set(calls)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=["float64", "float32"])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_recorded_numbers_in_every_preset(folder, computed_by, checkpoint, preset, dtype):
    potential = loaded(folder / checkpoint, dtype)
    unit = MLIPPredictUnit(potential, preset, dtype=dtype)
    used = check_all(unit, folder / RECORDS[checkpoint], computed_by)
    best = "compiled" if reason_against("compiled", potential) is None else "tiled"
    mode = "general" if preset == "traineval" else best
    assert unit._runner.engine.mode == mode
    assert used == ({mode} - {"general"})


@pytest.mark.parametrize("dtype", TOLERANCES, ids=["float64", "float32"])
@pytest.mark.parametrize("merged", [False, True], ids=["experts", "merged"])
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("checkpoint", BACKBONES)
def test_recorded_numbers_in_every_execution(
    folder, computed_by, checkpoint, execution, merged, dtype
):
    potential = available(folder / checkpoint, dtype, execution)
    unit = MLIPPredictUnit(potential, {"execution_mode": execution, "merge_mole": merged})
    used = check_all(unit, folder / RECORDS[checkpoint], computed_by)
    assert unit._runner.engine.mode == execution
    assert used == ({execution} - {"general"})
    assert f"Execution '{execution}'" in unit.explain()
    assert ("Experts are merged for" in unit.explain()) == merged


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_recorded_numbers_with_small_tiles_and_nothing_kept(folder, computed_by, execution):
    potential = available(folder / "tiny_uma.pt", torch.float64, execution)
    settings = {
        "execution_mode": execution,
        "activation_checkpointing": True,
        "edge_chunk_size": 37,
    }
    unit = MLIPPredictUnit(potential, settings)
    used = check_all(unit, folder / "reference_tiny_uma.json", computed_by)
    assert used == ({execution} - {"general"})


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("checkpoint", BACKBONES)
def test_merged_equals_unmerged_in_float64(folder, checkpoint, execution):
    potential = available(folder / checkpoint, torch.float64, execution)
    plain = MLIPPredictUnit(potential, "traineval")
    _, systems = recorded(folder / RECORDS[checkpoint])
    for system in systems.values():
        # The first structure that comes is merged.
        unit = MLIPPredictUnit(potential, {"preset": "turbo", "execution_mode": execution})
        merged, expected = unit.predict([system, system]), plain.predict([system, system])
        assert "Experts are merged for" in unit.explain()
        for name, tolerance in TOLERANCES[torch.float64].items():
            torch.testing.assert_close(merged[name], expected[name], rtol=0, atol=tolerance)
