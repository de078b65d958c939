"""Official checkpoints are translated completely or refused with the reason."""

from __future__ import annotations

import copy
import os
import re
import sys
from types import ModuleType

import pytest
import torch

from adatom.checkpoint.fairchem import read_fairchem
from adatom.checkpoint.fairchem_model import _NO_EFFECT, _REQUIRED, _SPECIAL, SHARED
from adatom.checkpoint.fairchem_tasks import translate_domains, translate_tasks
from adatom.checkpoint.format import load_potential, read_description
from adatom.checkpoint.omegaconf_records import plain
from adatom.checkpoint.torch_archive import open_archive
from adatom.core.errors import AdatomError, CheckpointError, OutOfDomainError

MODULE = "fairchem.core.units.mlip_unit.api.inference"


@pytest.fixture(scope="module")
def original(shared):
    """Return the contents of an official file as plain values and tensors."""
    with open_archive(shared / "reference" / "uma_tiny" / "tiny_uma.pt") as file:
        state = file.contents().state
        return {
            "model_config": plain(state["model_config"]),
            "tasks_config": plain(state["tasks_config"]),
            "ema_state_dict": {k: file.tensor(v) for k, v in state["ema_state_dict"].items()},
        }


@pytest.fixture
def write(original, tmp_path, monkeypatch):
    """Return a function that writes an official-looking file after a change of its contents."""
    module = ModuleType(MODULE)
    module.MLIPInferenceCheckpoint = type("MLIPInferenceCheckpoint", (), {"__module__": MODULE})
    for i in range(1, MODULE.count(".") + 1):
        name = MODULE.rsplit(".", i)[0]
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, MODULE, module)

    def write_changed(change=lambda _: None):
        # Weights are only ever replaced, never changed in place.
        contents = copy.deepcopy(original, {id(v): v for v in original["ema_state_dict"].values()})
        change(contents)
        checkpoint = module.MLIPInferenceCheckpoint()
        vars(checkpoint).update(contents, model_state_dict={})
        torch.save(checkpoint, tmp_path / "official.pt")
        return tmp_path / "official.pt"

    return write_changed


def backbone(contents):
    return contents["model_config"]["backbone"]


def head(contents):
    return contents["model_config"]["heads"]["energyandforcehead"]


def test_an_unchanged_copy_is_read_completely(write, original):
    potential = load_potential(write())
    weights = potential.state_dict()
    ema = original["ema_state_dict"]
    assert torch.equal(
        weights["backbone.norm.affine_weight"], ema["module.backbone.norm.affine_weight"]
    )
    assert torch.equal(
        weights["head.energy_block.0.weight"],
        ema["module.output_heads.energyandforcehead.head.energy_block.0.weight"],
    )
    assert potential.cutoff == 6.0
    assert potential.max_neighbors == 300
    assert potential.datasets == ["oc20", "odac", "omat", "omc", "omol"]


def test_every_dataset_gets_stress_and_only_trained_ones_say_so(write):
    about = read_description(write())
    stress = {
        t["datasets"][0]: t["inference_only"] for t in about["tasks"] if "stress" in t["name"]
    }
    assert stress == {"omat": False, "omc": False, "oc20": True, "omol": True, "odac": True}
    without = write(lambda c: backbone(c).update(auto_add_default_untrained_tasks=False))
    names = [task["name"] for task in read_description(without)["tasks"]]
    assert "oc20_stress" not in names
    assert "omat_stress" in names


def test_an_untrained_stress_task_has_the_normalizer_of_its_energy():
    energy = {"_target_": "x.Task", "name": "e", "property": "energy", "datasets": ["a"],
              "normalizer": {"_target_": "x.Normalizer", "mean": 0.5, "rmsd": 2.0}}  # fmt: skip
    _, stress = translate_tasks([energy], "file", add_stress=True)
    assert stress["property"] == "stress"
    assert stress["normalizer"] == {"mean": 0.5, "rmsd": 2.0}


def test_references_keep_every_digit(write, original):
    expected = original["tasks_config"][0]["element_references"]["element_references"]["_args_"][0]
    (task,) = [t for t in load_potential(write()).tasks if t.name == "oc20_energy"]
    assert task.element_references.tolist() == expected


def test_domains_follow_references_and_released_datasets():
    energy = {"property": "energy", "element_references": [0.0, -1.0, 0.0, -3.0]}
    domains = translate_domains([{**energy, "datasets": ["oc20", "omol", "mine"]}], 100)
    assert [d["elements"] for d in domains.values()] == [[1, 3]] * 3
    assert domains["oc20"]["charges"] == domains["oc20"]["spins"] == [0]
    assert domains["mine"]["charges"] == domains["mine"]["spins"] == []
    assert domains["omol"]["charges"] == []
    assert 0 not in domains["omol"]["spins"]


def test_a_released_dataset_refuses_what_it_was_not_trained_on(write):
    domain = load_potential(write()).domains["omol"]
    with pytest.raises(OutOfDomainError, match=r"spin 0, .* spin among 1 to 100"):
        domain.check(torch.tensor([1]), 0, 0, "H")
    domain = load_potential(write()).domains["omat"]
    with pytest.raises(OutOfDomainError, match=r"charge 1, .* Leave atoms.info\['charge'\] out"):
        domain.check(torch.tensor([1]), 1, 0, "H")
    with pytest.raises(OutOfDomainError, match="has Z=119, which this potential never saw"):
        domain.check(torch.tensor([1, 119]), 0, 0, "H")


@pytest.mark.parametrize(
    ("model_id", "counts_zero"), [("UMA-S-1.2", True), ("UMA-S-1.2.1", False), ("UMA-S-1.1", False)]
)
def test_one_release_divides_by_n_plus_one(write, model_id, counts_zero):
    about = read_description(write(lambda c: c["model_config"].update(model_id=model_id)))
    assert about["backbone"]["init_args"]["composition_mean_counts_zero"] is counts_zero
    assert about["metadata"]["name"] == model_id


def test_a_head_with_experts_is_told_its_levels(shared):
    about = read_description(shared / "reference" / "uma_tiny" / "tiny_uma_moehead.pt")
    assert set(about["head"]["init_args"]["dataset_mapping"]) == set(about["domains"])


def test_a_dataset_may_share_the_embedding_of_another(write):
    path = write(lambda c: backbone(c)["dataset_mapping"].update(oc20_subset="oc20"))
    assert load_potential(path).backbone.dataset_embedding.indices(["oc20_subset"]) == [0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: backbone(c).update(direct_forces=True), "'oc20_forces' needs forces, but no"),
        (lambda c: backbone(c).pop("direct_forces"), "'oc20_forces' needs forces, but no head"),
        (lambda c: backbone(c).update(layers_moe=[0]), r"layers_moe = \[0\]"),
        (lambda c: backbone(c).update(moe_single=True), "moe_single = True"),
        (lambda c: backbone(c).update(moe_expert_coefficient_norm="x"), "cannot be built.*pnorm"),
        (lambda c: backbone(c).update(model="x.EquiformerV2"), "backbone is 'x.EquiformerV2'"),
        (lambda c: backbone(c).update(secret=1), "setting secret = 1"),
        (lambda c: backbone(c).update(use_global_embedding=True), "use_global_embedding = True"),
        (lambda c: backbone(c).update(distance_function="bessel"), "'bessel'"),
        (lambda c: backbone(c).update(lmax="two"), "cannot be built"),
        (lambda c: c["model_config"].update(_target_="x.OtherModel"), "model is 'x.OtherModel'"),
        (lambda c: c["model_config"].pop("model_id"), "deprecated UMA 1.0"),
        (lambda c: c["model_config"].update(heads={}), r"heads \(none\)"),
        (lambda c: c["model_config"].update(heads=["x"]), r"heads are \['x'\]"),
        (lambda c: c["model_config"]["heads"].update(more={}), "head 'more' is None"),
        (lambda c: c["model_config"]["heads"].update(more=7), "head 'more' is 7"),
        (
            lambda c: c["model_config"]["heads"].update(more=head(c)),
            "heads energyandforcehead and more both give energy",
        ),
        (
            lambda c: c["model_config"]["heads"].update(more={"module": "x.Linear_Force_Head"}),
            "forces come both from a head and as derivatives",
        ),
        (lambda c: head(c).update(head_cls="x.Linear_Force_Head"), "Expected an energy head"),
        (lambda c: head(c).update(hidden=3), "setting 'hidden'"),
        (lambda c: head(c).update(module="x.Unheard"), "is Unheard"),
        (lambda c: head(c)["head_kwargs"].update(reduce="max"), "reduces by 'max'"),
        (lambda c: c["tasks_config"][0].update(property="hessian"), "predicts 'hessian'"),
        (lambda c: c["tasks_config"][0]["normalizer"].update(_target_="x.Odd"), "normalizer"),
        (lambda c: c["tasks_config"][0]["element_references"].update(_target_="x.Odd"), "not unde"),
        (lambda c: c.pop("ema_state_dict"), "without ema_state_dict"),
        (lambda c: c["ema_state_dict"].pop("module.backbone.mix_csd.bias"), "'backbone.mix_csd.b"),
        (lambda c: backbone(c).update(sphere_channels=8), "instead of"),
    ],
)
def test_what_cannot_be_represented_is_refused_with_the_reason(write, change, message):
    with pytest.raises(CheckpointError, match=message):
        load_potential(write(change))


#: All constructor arguments of the two backbones of fairchem-core 2.24.0 that a file can hold.
ARGUMENTS = set(
    re.findall(
        r"\w+",
        """
        max_num_elements sphere_channels lmax mmax grid_resolution num_sphere_samples otf_graph
        max_neighbors use_pbc use_pbc_single cutoff edge_channels distance_function
        num_distance_basis direct_forces regress_forces direct_stress regress_stress
        regress_hessian hessian_vmap num_layers hidden_channels norm_type act_type ff_type
        activation_checkpointing chg_spin_emb_type cs_emb_grad dataset_emb_grad dataset_list
        dataset_mapping use_dataset_embedding use_cuda_graph_wigner use_quaternion_wigner
        radius_pbc_version always_use_pbc charge_balanced_channels spin_balanced_channels
        edge_chunk_size execution_mode num_experts moe_dropout use_global_embedding
        use_composition_embedding composition_dropout moe_expert_coefficient_norm layers_moe
        moe_layer_type moe_single moe_type model_version
        """,
    )
)


def test_every_argument_of_the_official_backbones_is_known():
    known = {*SHARED, *_REQUIRED, *_NO_EFFECT, *_SPECIAL}
    assert known >= ARGUMENTS


def test_how_experts_are_computed_does_not_matter(write):
    path = write(lambda c: backbone(c).update(moe_layer_type="dgl", use_quaternion_wigner=False))
    assert load_potential(path).datasets


def places(value, path=()):
    """Yield the path of every entry inside settings."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in entries:
        yield (*path, key)
        # Long lists are tables of numbers; the first ones speak for all.
        if isinstance(item, dict) or (isinstance(item, list) and key != "_args_"):
            yield from places(item[:2] if isinstance(item, list) else item, (*path, key))


def test_settings_of_any_other_type_are_refused_or_harmless(write, original):
    """Nothing but an adatom error leaves the reader, whatever stands in a file."""
    chosen = {key: original[key] for key in ("model_config", "tasks_config")}
    chosen["tasks_config"] = chosen["tasks_config"][:2]

    def change(contents, path, value):
        contents["ema_state_dict"] = {}
        contents["tasks_config"] = contents["tasks_config"][:2]
        for key in path[:-1]:
            contents = contents[key]
        contents[path[-1]] = value

    refusals = 0
    for path in places(chosen):
        for value in (None, "x", [{}], {"_target_": "os.system"}):
            changed = write(lambda c, path=path, value=value: change(c, path, value))
            try:
                read_description(changed)
            except AdatomError:
                refusals += 1
    assert refusals > 100


def test_dotted_paths_in_the_settings_are_only_compared(write, monkeypatch):
    """fairchem would import and call these; here they are text."""
    calls = []
    monkeypatch.setattr(os, "system", calls.append)
    attack = {"_target_": "os.system", "command": "touch executed", "_args_": ["touch executed"]}
    changes = [
        lambda c: c["model_config"].update(attack),
        lambda c: backbone(c).update(model="os.system"),
        lambda c: backbone(c).update(anything=attack),
        lambda c: head(c).update(module="os.system"),
        lambda c: head(c).update(head_cls="os.system"),
        lambda c: c["tasks_config"][0].update(_target_="os.system"),
        lambda c: c["tasks_config"][0].update(normalizer=attack),
        lambda c: c["tasks_config"][0].update(element_references=attack),
    ]
    for change in changes:
        with pytest.raises(CheckpointError):
            load_potential(write(change))
    # Losses are not needed for predictions and never looked at.
    load_potential(write(lambda c: c["tasks_config"][0].update(loss_fn=attack)))
    assert calls == []


def test_a_torch_file_of_another_kind_is_named(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="not an inference checkpoint"):
        load_potential(tmp_path / "last.ckpt")


def test_reading_needs_no_fairchem(shared):
    read_fairchem(shared / "reference" / "uma_tiny" / "tiny_uma_1p1style_dcp.pt")
    assert not any(name.split(".")[0] in ("fairchem", "omegaconf") for name in sys.modules)
