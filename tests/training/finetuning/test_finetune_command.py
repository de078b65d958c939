"""``adatom finetune`` from the base to the result, on a network of a few thousand weights."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
import yaml
from ase.io import read, write
from official_file import write_official

from adatom.checkpoint.format import load_potential, read_description
from adatom.cli.finetune import main
from adatom.core.errors import (
    ConfigError,
    MissingLabelError,
    OutOfDomainError,
    UnknownNameError,
)
from adatom.training.checkpoints import InterruptedRunError
from adatom.training.data_source import DataSource
from adatom.training.finetuning.frozen import weight_checksums
from adatom.training.finetuning.source_names import named_sources
from adatom.training.finetuning.unit import FinetuningUnit

QUICK = ["--epochs", "1", "--batch_size", "6", "--check", "false", "--report", "false"]


def finetune(base: Path, data: Path | str, folder: Path, *options: object) -> dict:
    """Run the verb; return what it wrote down as the result."""
    main([str(base), str(data), "--run_dir", str(folder), *QUICK, *map(str, options)])
    return json.loads((folder / "result.json").read_text())


METHODS = {
    "full": [],
    "heads": [],
    "layers": ["--layers", '["backbone.blocks.0.atom_wise", "head"]'],
    "lora": ["--lora.rank", "2"],
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_improves_on_the_base(base, shifted, tmp_path, capsys, method):
    options = ["--dataset", "far", "--like", "emt", "--method", method, *METHODS[method]]
    options += ["--epochs", "4", "--lr", "0.03"]
    result = finetune(base, shifted, tmp_path / "run", *options)
    told = capsys.readouterr()
    assert "Element references of 'far'" in told.out
    assert "Step 0 on 4 structures: forces are those of the base" in told.err
    assert "frozen tensors are unchanged" in told.err
    before, after = (result[when]["Validation errors"]["far"] for when in ("before", "after"))
    if method != "heads":  # a head alone cannot do much on a network that was never trained
        assert after["forces"]["mae"] < before["forces"]["mae"]
    potential = load_potential(tmp_path / "run" / "best.safetensors")
    assert potential.datasets == ["far"]
    assert not any("parametrizations" in name for name, _ in potential.named_parameters())
    assert potential.metadata["finetuning"]["method"] == method
    assert potential.metadata["finetuning"]["began_as"] == {"far": "emt"}
    # -100 eV per atom went into the references.
    table = potential.task_for("far", "energy").element_references
    assert -120.0 < float(table[29]) < -90.0
    unmoved = weight_checksums(load_potential(base))
    now = weight_checksums(potential)
    changed = {name for name in unmoved if name in now and now[name] != unmoved[name]}
    embedding = "backbone.sphere_embedding.weight"
    assert (embedding in changed) == (method == "full")
    assert ("backbone.blocks.0.edge_wise.so2_conv_1.fc_m0.weights" in changed) == (
        method in ("full", "lora")
    )


def test_an_official_checkpoint_and_the_same_level_of_theory(small, copper, tmp_path, capsys):
    write_official(small, tmp_path / "official.pt")
    finetune(tmp_path / "official.pt", copper, tmp_path / "run", "--dataset", "emt")
    assert "Element references" not in capsys.readouterr().out
    potential = load_potential(tmp_path / "run" / "best.safetensors")
    before = small.task_for("emt", "energy").element_references
    assert torch.equal(potential.task_for("emt", "energy").element_references, before)


def test_a_finished_run_is_left_alone(base, shifted, tmp_path, capsys):
    options = ["--dataset", "far", "--like", "emt", "--method", "lora"]
    finetune(base, shifted, tmp_path / "run", *options)
    capsys.readouterr()
    finetune(base, shifted, tmp_path / "run", *options, "--report", "true")
    assert "is finished" in capsys.readouterr().err
    assert (tmp_path / "run" / "report.html").is_file()
    with pytest.raises(ConfigError, match="another configuration"):
        finetune(base, shifted, tmp_path / "run", *options, "--lr", "1e-5")


def test_an_interrupted_run_continues_exactly(base, shifted, tmp_path, monkeypatch):
    options = ["--dataset", "far", "--like", "emt", "--method", "lora", "--epochs", "2"]
    finetune(base, shifted, tmp_path / "whole", *options)
    step = FinetuningUnit.optimizer_step

    def interrupted(self, *args, **kwargs):
        step(self, *args, **kwargs)
        if self.trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(FinetuningUnit, "optimizer_step", interrupted)
        with pytest.raises(InterruptedRunError):
            finetune(base, shifted, tmp_path / "run", *options)
    finetune(base, shifted, tmp_path / "run", *options)
    whole, run = (load_potential(tmp_path / f / "best.safetensors") for f in ("whole", "run"))
    assert weight_checksums(run) == weight_checksums(whole)


@pytest.mark.parametrize("labels", ["file", "base"])
def test_replay_of_the_bases_own_level(base, shifted, copper, tmp_path, labels):
    replay = json.dumps({"path": str(copper), "dataset": "other"})
    result = finetune(
        base,
        shifted,
        tmp_path / "run",
        *["--dataset", "far", "--like", "emt", "--replay", replay, "--replay_ratio", "0.5"],
        *["--replay_labels", labels, "--base_test", replay],
    )
    written = read(tmp_path / "run" / "replay" / "other.extxyz", ":")
    assert len(written) == 12
    potential = load_potential(tmp_path / "run" / "best.safetensors")
    assert potential.datasets == ["far", "other"]
    assert set(result["before"]["Errors in the domain of the base"]) == {"other"}
    assert set(result["after"]["Validation errors"]) == {"far", "other"}
    original = {atoms.info["sid"]: atoms for atoms in read(copper, ":")}
    for atoms in written:
        same = original[atoms.info["sid"]].get_potential_energy()
        equal = atoms.get_potential_energy() == pytest.approx(same, abs=1e-6)
        assert equal == (labels == "file")


def test_several_tasks_at_once_from_a_file(base, shifted, copper, tmp_path):
    config = {
        "base": str(base),
        "data": [
            {"path": str(shifted), "dataset": "far"},
            {"path": str(copper), "dataset": "near", "index": "::2"},
        ],
        "like": {"far": "emt", "near": "other"},
        "scale": "data",
        "losses": {"energy": {"name": "per_atom_mae", "coefficient": 3.0}},
        "run_dir": str(tmp_path / "run"),
        "epochs": 1,
        "check": False,
        "report": False,
    }
    path = tmp_path / "finetune.yaml"
    path.write_text(yaml.safe_dump(config))
    main(["--config", str(path)])
    potential = load_potential(tmp_path / "run" / "best.safetensors")
    assert potential.datasets == ["far", "near"]
    assert potential.task_for("far", "forces").loss_fn is None
    scales = [potential.task_for(d, "energy").normalizer.rmsd for d in ("far", "near")]
    assert scales[0] != scales[1]
    assert 0.7 not in scales
    description = read_description(tmp_path / "run" / "best.safetensors")
    assert description["metadata"]["finetuning"]["began_as"] == {"far": "emt", "near": "other"}


def test_the_first_file_names_a_new_dataset():
    given = ["data/My set-1.extxyz", DataSource(path="b.xyz", dataset="far"), "c.xyz"]
    found = named_sources(given, ["emt"], None)
    assert [source.dataset for source in found] == ["My_set_1", "far", "My_set_1"]
    assert [s.dataset for s in named_sources(given, ["emt"], "emt")] == ["emt", "far", "emt"]
    with pytest.raises(ConfigError, match="Say --dataset emt"):
        named_sources("emt.extxyz", ["emt"], None)


def test_mistakes_are_named(base, shifted, copper, tmp_path):
    new = ["--dataset", "far"]
    with pytest.raises(ConfigError, match="--like with one of: emt, other"):
        finetune(base, shifted, tmp_path / "a", *new)
    with pytest.raises(UnknownNameError, match="did you mean 'other'"):
        finetune(base, shifted, tmp_path / "b", *new, "--like", "othr")
    replay = json.dumps({"path": str(copper), "dataset": "emd"})
    with pytest.raises(UnknownNameError, match="dataset of replay 'emd'"):
        finetune(base, shifted, tmp_path / "c", *new, "--replay", replay)
    losses = json.dumps({"stress": {"name": "mae", "coefficient": 1.0}})
    with pytest.raises(MissingLabelError, match="stress"):
        finetune(base, shifted, tmp_path / "d", *new, "--like", "emt", "--losses", losses)
    with pytest.raises(ConfigError, match="did you mean '--method'"):
        finetune(base, shifted, tmp_path / "e", *new, "--metod", "full")
    frames = read(shifted, ":")
    for atoms in frames:
        atoms.symbols[0] = "Ag"
    write(tmp_path / "silver.extxyz", frames)
    with pytest.raises(OutOfDomainError, match="have Ag, which the base never saw in 'emt'"):
        finetune(base, tmp_path / "silver.extxyz", tmp_path / "f", "--like", "emt")
