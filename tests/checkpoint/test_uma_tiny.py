"""The four official tiny checkpoints give the energies, forces and stress recorded with them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from ase import Atoms

from adatom.checkpoint.format import load_potential, save_potential
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import collate

# The fourth file has no record of its own: its weights are those of the first, byte for byte.
REFERENCES = {
    "tiny_uma.pt": "reference_tiny_uma.json",
    "tiny_uma_moehead.pt": "reference_tiny_uma_moehead.json",
    "tiny_uma_l4m2.pt": "reference_tiny_uma_l4m2.json",
    "tiny_uma_1p1style_dcp.pt": "reference_tiny_uma.json",
}
#: eV, eV/angstrom, eV/angstrom^3.
TOLERANCES = {
    torch.float64: {"energy": 1e-9, "forces": 1e-9, "stress": 1e-10},
    torch.float32: {"energy": 1e-5, "forces": 1e-5, "stress": 1e-6},
}
PROPERTIES = ("energy", "forces", "stress")


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "reference" / "uma_tiny"


def system_of(entry, sid):
    # The record completes an absent cell to 1 cubic angstrom, so its stress is the virial.
    cell = entry["cell"] if np.any(entry["cell"]) else np.eye(3)
    atoms = Atoms(entry["numbers"], positions=entry["positions"], cell=cell, pbc=entry["pbc"])
    atoms.info |= {"charge": entry["charge"], "spin": entry["spin"]}
    return from_ase(atoms, dataset=entry["task"], sid=sid)


def deviations(potential, data, recorded):
    """Return the greatest deviation of each property from the record."""
    data = data.with_edges(potential.cutoff, max_neighbors=potential.max_neighbors)
    potential.check_input(data)
    predicted = potential.denormalize(potential(data, PROPERTIES), data)
    assert predicted["energy"].dtype == predicted["stress"].dtype == torch.float64
    assert predicted["forces"].dtype == potential.dtype
    expected = {p: torch.tensor(recorded[p], dtype=torch.float64) for p in PROPERTIES}
    expected["stress"] = expected["stress"].view(-1, 3, 3)
    return {
        p: float((predicted[p].detach().double() - expected[p]).abs().max()) for p in PROPERTIES
    }


# Frozen weights, as every predict unit has them, take another path than weights in training.
@pytest.mark.parametrize("frozen", [True, False], ids=["inference", "training"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("checkpoint", REFERENCES)
def test_recorded_numbers_singly_and_as_a_batch(folder, checkpoint, dtype, frozen):
    record = json.loads((folder / REFERENCES[checkpoint]).read_text())
    potential = load_potential(folder / checkpoint, dtype=dtype).requires_grad_(not frozen)
    precision = str(dtype).removeprefix("torch.")
    systems = {name: system_of(entry, name) for name, entry in record["systems"].items()}
    found = {
        name: deviations(potential, system, record["systems"][name][precision])
        for name, system in systems.items()
    }
    batch = record["batch_of_three"][precision]
    found["batch"] = deviations(
        potential, collate([systems[name] for name in batch["systems"]]), batch
    )
    worst = {p: max(one[p] for one in found.values()) for p in PROPERTIES}
    for prop, tolerance in TOLERANCES[dtype].items():
        assert worst[prop] <= tolerance, (prop, found)


@pytest.mark.parametrize("checkpoint", REFERENCES)
def test_a_converted_checkpoint_is_the_same_potential(folder, checkpoint, tmp_path):
    official = load_potential(folder / checkpoint)
    save_potential(official, tmp_path / "converted.safetensors")
    converted = load_potential(tmp_path / "converted.safetensors")
    expected, found = official.state_dict(), converted.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    for ours, theirs in zip(converted.tasks, official.tasks, strict=True):
        assert (ours.name, ours.normalizer, ours.datasets) == (
            theirs.name,
            theirs.normalizer,
            theirs.datasets,
        )
    assert converted.domains == official.domains
    assert converted.backbone.init_args == official.backbone.init_args
