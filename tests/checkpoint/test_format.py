"""One file holds a potential; whatever is wrong with it is said in one sentence."""

from __future__ import annotations

import json
import pickle
import struct
import sys

import pytest
import torch
from ase import Atoms
from safetensors.torch import load_file, save_file

from adatom.checkpoint.description import describe
from adatom.checkpoint.format import (
    load_potential,
    read_description,
    save_potential,
    verify,
)
from adatom.checkpoint.upgrades import FORMAT_VERSION, upgrade
from adatom.checkpoint.weights import fingerprint
from adatom.core.errors import CheckpointError, ConfigError, FileAccessError
from adatom.core.mapped_file import release_pages
from adatom.data.ase_convert import from_ase
from adatom.models.registry import build
from adatom.tasks.domain import Domain
from adatom.tasks.potential import Potential
from adatom.tasks.task import Normalizer, OutputSpec, Task
from toy_backbone import ToyBackbone, ToyHead, toy_potential

ALLOW = [ToyBackbone, ToyHead]


def escn_potential() -> Potential:
    """Return an untrained eSCN-MD potential with experts and awkward numbers everywhere."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = build(
            "eSCNMDBackbone",
            {
                "sphere_channels": 4,
                "hidden_channels": 4,
                "edge_channels": 4,
                "num_distance_basis": 4,
                "num_layers": 1,
                "cutoff": 4.5,
                "max_num_elements": 30,
                "num_experts": 2,
                "dataset_list": ["fine", "coarse"],
            },
        )
        head = build("EnergyHead", {"num_channels": 4, "hidden_channels": 4})
    references = torch.linspace(-1.0, 1.0, 100, dtype=torch.float64) / 3
    tasks = [
        Task(
            "energy", "system", "energy", OutputSpec((1,)), Normalizer(0.1, 1 / 3),
            ["fine", "coarse"], {"name": "per_atom_mae", "coefficient": 0.1}, references,
            metrics=["mae"],
        ),
        Task("forces", "atom", "forces", OutputSpec((3,)), Normalizer(0.0, 1 / 3),
             ["fine", "coarse"], train_on_free_atoms=False),
        Task("stress", "system", "stress", OutputSpec((3, 3)), Normalizer(0.0, 1 / 3),
             ["fine"], inference_only=True, eval_on_free_atoms=False),
    ]  # fmt: skip
    domains = {"fine": Domain((1, 8), (-1, 0), (0, 2)), "coarse": Domain((29,))}
    metadata = {"license": "CC-BY-4.0", "data": [{"sha256": "ab" * 32}], "note": "größer"}
    return Potential(backbone, head, tasks, domains, metadata=metadata)


def rewrite(path, change, tensors=None):
    """Change the description of a file (and its tensors) in place, as another program could."""
    stored = tensors or load_file(path)
    header = path.read_bytes()[8 : 8 + struct.unpack("<Q", path.read_bytes()[:8])[0]]
    description = json.loads(json.loads(header)["__metadata__"]["adatom"])
    change(description)
    save_file(stored, path, metadata={"adatom": json.dumps(description)})


def sign(description, tensors):
    """Recompute the fingerprint after a change."""
    description.pop("sha256")
    description["sha256"] = fingerprint(description, tensors)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "toy.safetensors"
    save_potential(toy_potential(("a", "b"), rmsd=1 / 3), file)
    return file


def test_a_round_trip_keeps_every_bit(tmp_path):
    saved = escn_potential()
    save_potential(saved, tmp_path / "one.safetensors")
    before = torch.random.get_rng_state()
    loaded = load_potential(tmp_path / "one.safetensors")
    assert torch.equal(before, torch.random.get_rng_state())
    ours, theirs = saved.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(ours[name].dtype == theirs[name].dtype for name in ours)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert describe(loaded) == describe(saved)
    assert loaded.metadata == saved.metadata
    assert loaded.domains == saved.domains
    assert loaded.tasks[0].element_references.dtype == torch.float64
    assert torch.equal(loaded.tasks[0].element_references, saved.tasks[0].element_references)
    assert loaded.tasks[0].normalizer == saved.tasks[0].normalizer
    assert not loaded.training
    save_potential(loaded, tmp_path / "two.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (
        tmp_path / "two.safetensors"
    ).read_bytes()


def test_a_loaded_potential_predicts_the_same_bits(tmp_path):
    saved = escn_potential().eval()
    save_potential(saved, tmp_path / "x.safetensors")
    loaded = load_potential(tmp_path / "x.safetensors")
    atoms = Atoms("OH2", positions=[[0, 0, 0], [0.9, 0.1, 0], [-0.2, 0.9, 0.1]])
    data = from_ase(atoms, dataset="fine").with_edges(saved.cutoff)
    one, two = (p.denormalize(p(data), data) for p in (saved, loaded))
    assert torch.equal(one["energy"], two["energy"])
    assert torch.equal(one["forces"], two["forces"])


def test_float64_keeps_float32_weights_and_casting_back_changes_nothing(tmp_path):
    saved = escn_potential()
    save_potential(saved, tmp_path / "x.safetensors")
    double = load_potential(tmp_path / "x.safetensors", dtype=torch.float64)
    assert double.dtype == torch.float64
    assert torch.get_default_dtype() == torch.float32
    for name, weight in saved.state_dict().items():
        assert torch.equal(double.state_dict()[name], weight.to(double.state_dict()[name].dtype))
    save_potential(double, tmp_path / "y.safetensors")
    single = load_potential(tmp_path / "y.safetensors", dtype=torch.float32)
    ours, theirs = saved.state_dict(), single.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_wrong_dtype_and_device_are_named(path):
    with pytest.raises(ConfigError, match="floating"):
        load_potential(path, dtype=torch.int64, allow=ALLOW)
    with pytest.raises(ConfigError, match="'nowhere'"):
        load_potential(path, device="nowhere", allow=ALLOW)


def test_a_description_is_read_without_the_model(path):
    about = read_description(path)
    assert about["backbone"]["class_path"] == "toy_backbone.ToyBackbone"
    assert about["units"]["stress"] == "eV/angstrom^3"
    assert about["elements"] == [1, 6, 8, 14, 18, 29]
    assert about["tasks"][0]["normalizer"]["rmsd"] == 1 / 3
    verify(path)


def test_a_foreign_class_is_refused_until_it_is_allowed(path):
    with pytest.raises(CheckpointError, match=r"Unknown model class 'toy_backbone.ToyBackbone'"):
        load_potential(path)
    assert isinstance(load_potential(path, allow=ALLOW).backbone, ToyBackbone)


def test_a_class_path_that_would_run_something_is_only_a_wrong_name(path, tmp_path):
    def change(description):
        description["backbone"] = {"class_path": "os.system", "init_args": {"command": "touch x"}}
        sign(description, load_file(path))

    rewrite(path, change)
    with pytest.raises(CheckpointError, match=r"Unknown model class 'os.system'"):
        load_potential(path, allow=ALLOW)


def test_every_truncation_is_noticed(path):
    whole = path.read_bytes()
    for keep in (0, 1, 7, 8, 9, 100, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises((CheckpointError, FileAccessError)) as caught:
            load_potential(path, allow=ALLOW)
        assert str(path) in str(caught.value)
        with pytest.raises((CheckpointError, FileAccessError)):
            read_description(path)


def test_every_changed_byte_is_noticed(path):
    whole = path.read_bytes()
    for position in range(0, len(whole), 97):
        changed = bytearray(whole)
        changed[position] ^= 0x04
        path.write_bytes(changed)
        with pytest.raises((CheckpointError, FileAccessError)):
            load_potential(path, allow=ALLOW)


def test_a_changed_number_in_the_description_is_noticed(path):
    rewrite(path, lambda d: d["tasks"][0]["normalizer"].update(rmsd=2.0))
    with pytest.raises(CheckpointError, match="do not match their fingerprint"):
        load_potential(path, allow=ALLOW)
    with pytest.raises(CheckpointError, match="do not match their fingerprint"):
        verify(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format_version=99, adatom_version="9.9"), "version 99, .* adatom 9.9"),
        (lambda d: d.update(format_version="1"), "format version '1'"),
        (lambda d: d.pop("format_version"), "format version None"),
        (lambda d: d.update(format="other"), "format 'other'"),
        (lambda d: d["units"].update(energy="kcal/mol"), "kcal/mol"),
        (lambda d: d.update(colour="blue"), "unknown entry 'colour'"),
        (lambda d: d.pop("tasks"), "lacks tasks"),
        (lambda d: d.update(cutoff=5.0), "cutoff = 5.0, but its model is built with 4.0"),
        (lambda d: d.update(dtype="int64"), "dtype 'int64'"),
        (lambda d: d["backbone"]["init_args"].update(cutof=3.0), "did you mean 'cutoff'"),
        (lambda d: d["backbone"].update(class_path="toy_backbone.ToyHead"), "expected|Expected"),
        (lambda d: d["tasks"][0].update(normaliser=1), "did you mean 'normalizer'"),
        (lambda d: d["tasks"][0].update(level="galaxy"), "level of task 'a_energy' is 'galaxy'"),
        (lambda d: d["tasks"][0]["normalizer"].update(rmsd=0.0), "rmsd is 0.0"),
        (lambda d: d["tasks"][0].update(element_references=["x"]), "task 'a_energy' is wrong"),
        (lambda d: d["domains"].pop("a"), "No domain is given"),
        (lambda d: d["domains"]["a"].update(elements="CuAu"), "domain of 'a' is wrong"),
    ],
)
def test_a_wrong_description_is_explained(path, change, message):
    def change_and_sign(description):
        change(description)
        sign(description, load_file(path))

    rewrite(path, change_and_sign)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_potential(path, allow=[ToyBackbone, ToyHead])
    assert "Traceback" not in str(caught.value)


def test_weights_that_do_not_fit_are_listed_with_the_nearest_name(path):
    tensors = load_file(path)
    tensors["backbone.frist.weight"] = tensors.pop("backbone.first.weight")

    rewrite(path, lambda d: sign(d, tensors), tensors)
    with pytest.raises(CheckpointError) as caught:
        load_potential(path, allow=ALLOW)
    assert "'backbone.first.weight' is missing; did you mean 'backbone.frist.weight'?" in str(
        caught.value
    )
    tensors["backbone.first.weight"] = tensors.pop("backbone.frist.weight")[:2]
    rewrite(path, lambda d: sign(d, tensors), tensors)
    with pytest.raises(CheckpointError, match=r"'backbone.first.weight' has shape \(2, 4\) inst"):
        load_potential(path, allow=ALLOW)


def test_foreign_files_are_named(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, foreign, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="safetensors file of another program"):
        load_potential(foreign)
    text = tmp_path / "notes.safetensors"
    text.write_text("these are only notes about a model")
    with pytest.raises(CheckpointError, match="not a checkpoint that adatom can read"):
        load_potential(text)
    bare = tmp_path / "model.pkl"
    bare.write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(CheckpointError, match="bare pickle"):
        load_potential(bare)
    with pytest.raises(CheckpointError, match="bare pickle"):
        read_description(bare)


def test_only_plain_values_can_be_saved(tmp_path):
    potential = toy_potential()
    potential.metadata["when"] = {"start": object()}
    with pytest.raises(CheckpointError, match=r"metadata\.when\.start is of type object"):
        save_potential(potential, tmp_path / "x.safetensors")
    potential.metadata["when"] = float("nan")
    with pytest.raises(CheckpointError, match=r"metadata\.when is nan"):
        save_potential(potential, tmp_path / "x.safetensors")
    potential.metadata["when"] = {1: "one"}
    with pytest.raises(CheckpointError, match="the key 1"):
        save_potential(potential, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_old_file(path, monkeypatch):
    whole = path.read_bytes()

    def fail(tensors, part, metadata):
        part.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("adatom.checkpoint.format.save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        save_potential(toy_potential(), path)
    assert path.read_bytes() == whole
    assert list(path.parent.iterdir()) == [path]


def test_upgrades_run_one_after_the_other():
    steps = {
        1: lambda d: {**d, "b": d["a"] + 1},
        2: lambda d: {**d, "c": d["b"] + 1},
    }
    upgraded = upgrade({"format_version": 1, "a": 1}, "x", steps=steps, current=3)
    assert upgraded == {"format_version": 3, "a": 1, "b": 2, "c": 3}
    with pytest.raises(CheckpointError, match="no longer reads"):
        upgrade({"format_version": 1}, "x", steps={2: steps[2]}, current=3)
    assert upgrade({"format_version": FORMAT_VERSION}, "x") == {"format_version": FORMAT_VERSION}


def test_large_weights_stay_in_the_file_and_can_be_trained(tmp_path):
    init_args = {"sphere_channels": 48, "hidden_channels": 48, "num_experts": 8, "num_layers": 1}
    backbone = build("eSCNMDBackbone", init_args)
    head = build("EnergyHead", {"num_channels": 48, "hidden_channels": 8})
    energy = Task("energy", "system", "energy", OutputSpec((1,)), Normalizer(0.0, 1.0), ["x"])
    file = tmp_path / "large.safetensors"
    save_potential(Potential(backbone, head, [energy], {"x": Domain((1,))}), file)
    before = file.read_bytes()
    weights = load_potential(file).backbone.blocks[0].edge_wise.so2_conv_1.fc_m0.weights
    assert torch.equal(weights, backbone.blocks[0].edge_wise.so2_conv_1.fc_m0.weights)
    assert weights.requires_grad
    if sys.platform.startswith("linux"):
        assert release_pages(weights)
    (weights**2).sum().backward()
    torch.optim.SGD([weights], lr=0.1).step()
    assert file.read_bytes() == before
    assert load_potential(file, dtype=torch.float64).dtype == torch.float64


def test_tables_that_are_no_weights_are_computed_not_left_empty(tmp_path):
    original = escn_potential()
    save_potential(original, tmp_path / "x.safetensors")
    loaded = load_potential(tmp_path / "x.safetensors")
    buffers = dict(loaded.named_buffers())
    assert buffers
    assert all(torch.equal(buffers[name], value) for name, value in original.named_buffers())
