"""A descriptor network learns silicon with adatom s2ef, and takes its scales from the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adatom.checkpoint.format import load_potential
from adatom.cli.s2ef import main
from adatom.core.errors import ConfigError
from adatom.data.open_dataset import open_dataset
from adatom.training.data_module import AtomisticDataModule


def fit(repository: Path, folder: Path, *options: str) -> None:
    """Train with the configuration of the repository."""
    path = str(repository / "configs" / "descriptor_network.yaml")
    main(["fit", "--config", path, "--run_dir", str(folder), *options])


def test_a_new_network_takes_its_scales_from_the_training_structures(
    repository, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(repository)
    data = "examples/data/silicon_train.extxyz"
    fit(
        repository, tmp_path, "--trainer.max_epochs", "1", "--data.train", data,
        "--data.test", "null", "--data.val_fraction", "0",
    )  # fmt: skip
    systems = open_dataset(data, dataset="default")
    said = f"Standardized 20 descriptor values by {sum(s.num_atoms for s in systems)} atoms"
    assert said in capsys.readouterr().err
    backbone = load_potential(tmp_path / "last.safetensors").backbone
    taken = (backbone.mean.clone(), backbone.scale.clone())
    backbone.learn_scales(list(systems))
    for before, after in zip(taken, (backbone.mean, backbone.scale), strict=True):
        torch.testing.assert_close(before, after)


def test_samples_are_spread_over_a_part(repository):
    module = AtomisticDataModule(
        train=str(repository / "examples/data/silicon_train.extxyz"), val_fraction=0.0, check=False
    )
    with pytest.raises(ConfigError, match="were not read"):
        module.sample("train", 2)
    module.setup("fit")
    everything = [system.sid for system in module.systems("train")]
    assert [system.sid for system in module.sample("train", 10**6)] == everything
    few = [system.sid for system in module.sample("train", 2)]
    assert few == [everything[0], everything[len(everything) // 2]]


@pytest.mark.slow
def test_three_epochs_beat_the_element_references_by_far(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(repository)
    fit(repository, tmp_path, "--trainer.max_epochs", "3")
    found = json.loads((tmp_path / "result.json").read_text())["best"]
    systems = open_dataset("examples/data/Si_train.extxyz.xz", dataset="default")
    forces = torch.cat([system.labels["forces"] for system in systems])
    per_atom = torch.tensor([float(s.labels["energy"]) / s.num_atoms for s in systems])
    # References of one element are a constant per atom, and have no forces.
    assert found["val/forces_mae"] < 0.5 * float(forces.abs().mean())
    baseline = float((per_atom - per_atom.median()).abs().mean())
    assert found["val/energy_per_atom_mae"] < 0.25 * baseline
