"""A fine-tuning begins exactly where its base is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from official_file import write_official

from adatom.checkpoint.format import load_potential
from adatom.core.errors import CheckpointError, ConfigError, UnknownNameError
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import AtomicData
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.training.finetuning.base import initialize_finetuning_model
from adatom.training.finetuning.new_dataset import add_dataset
from adatom.training.finetuning.predictions import batches, predicted
from adatom.training.finetuning.start import StartError, check_start

LOCAL = Path(__file__).resolve().parents[2] / "checkpoint" / "official"


def water(dataset: str) -> AtomicData:
    from ase.build import molecule

    atoms = molecule("H2O", cell=[9.0, 9.0, 9.0], pbc=True)
    return from_ase(atoms, dataset=dataset, sid="water")


def energies_and_forces(potential: Potential, systems: list[AtomicData]) -> list[torch.Tensor]:
    out = []
    for _, values in predicted(potential, systems, ("energy", "forces")):
        out += [values["energy"], values["forces"]]
    return out


def test_the_averaged_weights_are_fine_tuned(small, systems, tmp_path):
    write_official(small, tmp_path / "official.pt", raw_noise=0.1)
    loaded = initialize_finetuning_model(tmp_path / "official.pt")
    assert all(p.requires_grad for p in loaded.parameters())
    for ours, theirs in zip(
        energies_and_forces(loaded, systems), energies_and_forces(small, systems), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_overrides_change_arguments_and_keep_weights(base):
    changed = initialize_finetuning_model(base, {"backbone": {"max_neighbors": 5}})
    assert changed.max_neighbors == 5
    original = load_potential(base)
    assert all(
        torch.equal(a, b) for a, b in zip(changed.parameters(), original.parameters(), strict=True)
    )
    with pytest.raises(UnknownNameError, match="did you mean 'backbone'"):
        initialize_finetuning_model(base, {"backbon": {"max_neighbors": 5}})
    with pytest.raises(ConfigError, match="did you mean 'max_neighbors'"):
        initialize_finetuning_model(base, {"backbone": {"max_neighbours": 5}})


def test_a_deeper_network_takes_what_fits_unless_strict(base, capsys):
    more = {"backbone": {"num_layers": 2}}
    with pytest.raises(CheckpointError, match=r"blocks\.1"):
        initialize_finetuning_model(base, more)
    deeper = initialize_finetuning_model(base, more, strict=False)
    assert "Fresh weights" in capsys.readouterr().err
    original = load_potential(base).state_dict()
    assert all(torch.equal(deeper.state_dict()[name], value) for name, value in original.items())


def test_new_heads_are_fresh_and_may_be_several(base):
    heads = {
        "f": {"class_path": "ForceHead", "init_args": {"num_channels": 8}},
        "e": {"class_path": "EnergyHead", "init_args": {"num_channels": 8, "hidden_channels": 4}},
    }
    potential = initialize_finetuning_model(base, heads=heads)
    assert potential.head.gives == ("energies", "forces")
    with pytest.raises(ConfigError, match="heads is empty"):
        initialize_finetuning_model(base, heads={})


OFFICIAL = [
    ("tiny_uma", "omol"),
    ("tiny_uma_moehead", "omat"),
    ("tiny_uma_l4m2", "oc20"),
    ("direct_stress", "omat"),
    ("esen_direct", "omol"),
    ("lin_emb", "oc20_subset"),
    ("pnorm_direct", "oc20"),
    ("pos_emb", "omol"),
    ("s2_grid", "omat"),
    ("uma_s_1p2", "oc20_subset"),
]


@pytest.mark.parametrize(("name", "like"), OFFICIAL)
def test_a_new_dataset_begins_as_another_one(shared, name, like):
    local = LOCAL / f"{name}.pt"
    path = local if local.is_file() else shared / "reference" / "uma_tiny" / f"{name}.pt"
    official = initialize_finetuning_model(path)
    extended = add_dataset(official, "mine", like, Domain((1, 8)))
    assert extended.datasets == sorted([*official.datasets, "mine"])
    old, new = water(like), water("mine")
    expected = energies_and_forces(official, [old])
    # float32; weights are the same, matrices of levels may be multiplied in other groups.
    for potential, system in ((extended, old), (extended, new)):
        for found, wanted in zip(energies_and_forces(potential, [system]), expected, strict=True):
            assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_the_new_dataset_moves_apart_from_the_old_one(small, systems):
    extended = add_dataset(small, "mine", "emt", Domain((29,)))
    before = energies_and_forces(extended, systems)
    index = extended.head.energy_block.expert_of["mine"]
    with torch.no_grad():
        extended.head.energy_block[0].weights[index] *= 2.0
        extended.backbone.dataset_embedding.dataset_emb_dict["mine"].weight.add_(0.5)
    after = energies_and_forces(extended, systems)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    mine = [replace(system, dataset=["mine"]) for system in systems]
    moved = energies_and_forces(extended, mine)
    assert not torch.allclose(moved[0], before[0], atol=1e-4)


@pytest.mark.parametrize("name", ["emt", "a.b", ""])
def test_names_that_cannot_be_used(small, name):
    with pytest.raises(ConfigError):
        add_dataset(small, name, "emt", Domain((29,)))


def test_a_wrong_start_is_refused(small, systems):
    extended = add_dataset(small, "mine", "emt", Domain((29,)))
    mine = [replace(system, dataset=["mine"]) for system in systems]
    start = check_start(small, extended, {"mine": "emt"}, mine)
    assert start.num_systems == 6
    assert start.energy < 1e-6
    with torch.no_grad():
        extended.backbone.mix_csd.weight.mul_(1.01)
    with pytest.raises(StartError, match="Before any training"):
        check_start(small, extended, {"mine": "emt"}, mine)


def test_batches_hold_all_systems_in_order(small, systems):
    many = [replace(s, sid=[f"{k}{s.sid[0]}"]) for k in range(20) for s in systems]
    found = [sid for batch in batches(small, many) for sid in batch.sid]
    assert found == [s.sid[0] for s in many]
