"""A merged potential gives the same numbers for its composition and refuses all others."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from adatom.checkpoint.format import load_potential, read_description, save_potential
from adatom.checkpoint.merge import merged_potential
from adatom.core.errors import CheckpointError, ConfigError, OutOfDomainError, UnknownNameError
from adatom.data.ase_convert import from_ase
from adatom.data.atomic_data import collate
from toy_backbone import toy_potential

TINY = ["tiny_uma.pt", "tiny_uma_moehead.pt", "tiny_uma_l4m2.pt"]


def water(copies=1, charge=0, spin=1, dataset="omol"):
    atoms = Atoms("OH2", positions=[[0, 0, 0.1], [0.2, 0.9, -0.4], [0.1, -0.7, -0.5]])
    for i in range(1, copies):
        moved = molecule("H2O")
        moved.translate((3.1 * i, 0.2, 0.1))
        atoms += moved
    atoms.info |= {"charge": charge, "spin": spin}
    return from_ase(atoms, dataset=dataset, sid="water")


def results(potential, data):
    data = data.with_edges(potential.cutoff, max_neighbors=potential.max_neighbors)
    potential.check_input(data)
    raw = potential(data, ["energy", "forces", "stress"])
    return {k: v.detach() for k, v in potential.denormalize(raw, data).items()}


def differences(a, b):
    return {k: float((a[k] - b[k]).abs().nan_to_num(0.0).max()) for k in ("energy", "forces")}


@pytest.fixture(params=TINY)
def official(shared, request):
    return shared / "reference" / "uma_tiny" / request.param


@pytest.fixture
def tiny(shared):
    return shared / "reference" / "uma_tiny" / "tiny_uma.pt"


def test_merged_float64_equals_unmerged_float64(official):
    potential = load_potential(official, dtype=torch.float64)
    merged = merged_potential(potential, water())
    assert merged.backbone.init_args["num_experts"] == 0
    for copies in (1, 2):
        found = differences(results(merged, water(copies)), results(potential, water(copies)))
        assert max(found.values()) < 1e-11


def test_charge_spin_and_dataset_are_those_of_the_system(official):
    potential = load_potential(official, dtype=torch.float64)
    ion = water(charge=-1, spin=2)
    copper = from_ase(bulk("Cu", cubic=True), dataset="omat", sid="Cu")
    for system in (ion, copper):
        merged = merged_potential(potential, system)
        assert (
            max(differences(results(merged, system), results(potential, system)).values()) < 1e-11
        )
    assert set(merged.properties("omat")) == set(potential.properties("omat"))


def test_merging_computes_in_float64_whatever_the_weights_are(tiny):
    precise = merged_potential(load_potential(tiny, dtype=torch.float64), water())
    single = merged_potential(load_potential(tiny), water())
    double = merged_potential(load_potential(tiny), water(), dtype=torch.float64)
    for name, value in precise.state_dict().items():
        assert torch.equal(single.state_dict()[name], value.float())
        assert torch.equal(double.state_dict()[name], value)
    assert max(differences(results(double, water()), results(precise, water())).values()) == 0.0


def test_all_but_the_experts_is_shared_and_the_original_unchanged(tiny):
    potential = load_potential(tiny)
    before = {name: value.clone() for name, value in potential.state_dict().items()}
    state = torch.get_rng_state()
    merged = merged_potential(potential, water())
    assert torch.equal(torch.get_rng_state(), state)
    after = potential.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.requires_grad for parameter in potential.parameters())
    assert not any(parameter.requires_grad for parameter in merged.parameters())
    own = [n for n, v in merged.state_dict().items()
           if n not in after or after[n].data_ptr() != v.data_ptr()]  # fmt: skip
    assert own
    assert all("so2_" in name and name.endswith("weight") for name in own)


def test_a_changed_neighbor_limit_is_kept(tiny):
    potential = load_potential(tiny)
    potential.backbone.max_neighbors = 17
    assert merged_potential(potential, water()).max_neighbors == 17


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: water(charge=1), "merged for H2O with charge 0 and spin 1"),
        (lambda: water(spin=3), "spin 3"),
        (lambda: from_ase(_with(molecule("H2O2"), 0, 1), dataset="omol", sid="x"), "is HO with"),
        (lambda: from_ase(_with(molecule("CH4"), 0, 1), dataset="omol", sid="x"), "is CH4 with"),
    ],
)
def test_everything_else_is_refused(tiny, tmp_path, other, message):
    merged = merged_potential(load_potential(tiny), water())
    save_potential(merged, tmp_path / "merged.safetensors")
    for potential in (merged, load_potential(tmp_path / "merged.safetensors")):
        potential.check_input(water(3))
        with pytest.raises(OutOfDomainError, match=message):
            potential.check_input(other())
        with pytest.raises(UnknownNameError, match="omol"):
            potential.check_input(water(dataset="omat"))


def _with(atoms, charge, spin):
    atoms.info |= {"charge": charge, "spin": spin}
    return atoms


def test_a_file_keeps_what_it_holds_for(tiny, tmp_path):
    merged = merged_potential(load_potential(tiny, dtype=torch.float64), water(2))
    save_potential(merged, tmp_path / "merged.safetensors")
    about = read_description(tmp_path / "merged.safetensors")
    assert list(about["domains"]) == ["omol"]
    assert about["domains"]["omol"]["composition"] == {
        "counts": [[1, 2], [8, 1]],
        "multiples": True,
    }
    assert {d for task in about["tasks"] for d in task["datasets"]} == {"omol"}
    loaded = load_potential(tmp_path / "merged.safetensors").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in merged.state_dict().items())


def test_the_release_that_counts_zero_is_merged_for_one_size(tiny, tmp_path):
    potential = load_potential(tiny, dtype=torch.float64)
    potential.backbone.composition_mean_counts_zero = True
    potential.backbone.init_args["composition_mean_counts_zero"] = True
    merged = merged_potential(potential, water(2))
    assert (
        max(differences(results(merged, water(2)), results(potential, water(2))).values()) < 1e-11
    )
    with pytest.raises(OutOfDomainError, match="merged for H4O2"):
        merged.check_input(water())


def test_systems_of_one_kind_may_come_together_and_others_not(tiny):
    potential = load_potential(tiny)
    merged = merged_potential(potential, collate([water(2), water()]))
    assert str(merged.domains["omol"].composition) == "H2O"
    with pytest.raises(OutOfDomainError, match="merged for H2O"):
        merged_potential(potential, collate([water(), water(charge=1)]))


def test_there_must_be_experts(tiny):
    merged = merged_potential(load_potential(tiny), water())
    for potential in (merged, toy_potential(("gold",))):
        with pytest.raises(ConfigError, match="no experts"):
            merged_potential(potential, water())


@pytest.mark.parametrize(
    "wrong",
    [
        {"counts": [], "multiples": True},
        {"counts": [[1, 0]], "multiples": True},
        {"counts": [[1]], "multiples": True},
        {"counts": 3, "multiples": True},
        {"counts": [[1, 2]]},
        "H2O",
    ],
)
def test_a_wrong_composition_in_a_file_is_named(wrong):
    from adatom.checkpoint.tasks_json import domain_from_json

    value = {"elements": [1], "charges": [0], "spins": [1], "composition": wrong}
    with pytest.raises(CheckpointError, match="omol"):
        domain_from_json(value, "omol")
