"""Whole trainings of a toy network: learning, data of several datasets, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ase.io import read, write
from lightning.pytorch import Trainer

from adatom.checkpoint.format import load_potential
from adatom.cli.main import main as adatom
from adatom.cli.s2ef import main
from adatom.core.errors import (
    ConfigError,
    DataError,
    MissingLabelError,
    NonFiniteError,
    OutOfDomainError,
)
from adatom.training.data_module import AtomisticDataModule
from adatom.training.module import S2EFLightningModule
from adatom.training.quiet import quiet_lightning
from adatom.training.sources import DataSource
from toy_backbone import ToyBackbone, ToyHead

Config = Callable[..., Path]


def fit(
    module: S2EFLightningModule, data: AtomisticDataModule, folder: Path, **trainer: Any
) -> dict[str, float]:
    options: dict[str, Any] = {
        "inference_mode": False,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    with quiet_lightning():
        engine = Trainer(**options | trainer)
        engine.fit(module, datamodule=data)
    return {name: float(value) for name, value in engine.callback_metrics.items()}


def toy(**kwargs: Any) -> S2EFLightningModule:
    torch.manual_seed(0)
    return S2EFLightningModule(ToyBackbone(num_channels=33), ToyHead(33, 1.0), **kwargs)


def test_overfits_five_structures(copper: Path, tmp_path: Path) -> None:
    five = DataSource(path=str(copper), index=":5")

    def errors(epochs: int) -> dict[str, float]:
        data = AtomisticDataModule(five, five, batch_size=5, check=False)
        often = {"max_epochs": epochs, "check_val_every_n_epoch": epochs}
        return fit(toy(lr=0.02, ema_decay=0.9), data, tmp_path, **often)

    before, after = errors(1), errors(300)
    assert after["val/loss"] < 0.1 * before["val/loss"]
    assert after["val/energy_per_atom_mae"] < 0.005
    assert after["val/forces_mae"] < 0.1 * before["val/forces_mae"]


def test_several_datasets_have_their_own_references(copper: Path, tmp_path: Path) -> None:
    shifted = tmp_path / "shifted.extxyz"
    frames = read(copper, ":")
    for atoms in frames:
        atoms.calc.results["energy"] -= 1000.0 * len(atoms)
        del atoms.calc.results["stress"]
    write(shifted, frames)
    sources = [
        DataSource(path=str(copper), dataset="emt"),
        DataSource(path=str(shifted), dataset="far", index="::2"),
    ]
    data = AtomisticDataModule(sources, batch_size=4, check=False)
    module = toy(losses={name: {"name": "mae"} for name in ("energy", "forces", "stress")})
    results = fit(module, data, tmp_path, max_epochs=2)
    potential = module.potential
    tables = [potential.task_for(name, "energy").element_references for name in ("emt", "far")]
    assert tables[0] is not None
    assert tables[1] is not None
    assert float(tables[0][29] - tables[1][29]) == pytest.approx(1000.0, abs=0.5)
    assert {"val/emt/energy_per_atom_mae", "val/far/forces_rmse"} <= set(results)
    assert "val/far/stress_mae" not in results
    assert potential.task_for("far", "stress").inference_only
    assert not potential.task_for("emt", "stress").inference_only
    assert results["val/emt/stress_mae"] > 0.0
    scales = {task.normalizer.rmsd for task in potential.tasks}
    assert len(scales) == 1


def test_only_the_average_is_validated(copper: Path, tmp_path: Path) -> None:
    module = toy(ema_decay=0.999999, lr=0.1)
    data = AtomisticDataModule(str(copper), batch_size=4, check=False)
    fit(module, data, tmp_path, max_epochs=1)
    ours = module.potential.state_dict()
    assert any(not torch.equal(ours[k], v) for k, v in module.average.module.state_dict().items())


def test_a_loss_without_labels_lists_what_is_there(copper: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.extxyz"
    frames = read(copper, ":")
    for atoms in frames:
        del atoms.calc.results["stress"]
    write(bare, frames)
    module = toy(losses={"stress": {"name": "mae"}})
    with pytest.raises(MissingLabelError, match=r"'stress'.*energy, forces"):
        fit(module, AtomisticDataModule(str(bare), check=False), tmp_path, max_epochs=1)


def test_validation_of_an_unseen_element(copper: Path, tmp_path: Path) -> None:
    other = tmp_path / "silver.extxyz"
    atoms = read(copper, "0")
    labels = atoms.calc
    atoms.symbols[0] = "Ag"
    atoms.calc = labels
    atoms.info["sid"] = "with-silver"
    labels.atoms = atoms.copy()
    write(other, atoms)
    data = AtomisticDataModule(str(copper), str(other), check=False)
    with pytest.raises(OutOfDomainError, match=r"'with-silver' has Ag"):
        fit(toy(), data, tmp_path, max_epochs=1)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_non_finite_step_is_stopped_and_its_batch_saved(
    copper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    module = toy()
    original = ToyHead.forward

    def broken(self: ToyHead, features: Any, data: Any) -> dict[str, torch.Tensor]:
        energies = original(self, features, data)["energies"]
        if "cu7" not in data.sid or not energies.requires_grad:
            return {"energies": energies}
        atoms = data.batch == data.sid.index("cu7")
        if where == "loss":
            return {"energies": torch.where(atoms, torch.nan, energies)}
        # sqrt(0): the value is fine, its derivative is not.
        return {"energies": energies + (0.0 * self.linear.weight.sum()).sqrt()}

    monkeypatch.setattr(ToyHead, "forward", broken)
    data = AtomisticDataModule(str(copper), val_fraction=0.0, batch_size=3, check=False)
    with pytest.raises(NonFiniteError) as caught:
        fit(module, data, tmp_path, max_epochs=1)
    saved = read(tmp_path / "non_finite_batch.extxyz", ":")
    assert "cu7" in {atoms.info["sid"] for atoms in saved}
    assert len(saved) == 3
    assert all(bool(p.isfinite().all()) for p in module.potential.parameters())
    message = str(caught.value)
    assert "non_finite_batch.extxyz" in message
    assert ("structure 'cu7';" in message) == (where == "loss")


def test_doctor_errors_stop_and_warnings_do_not(
    copper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    doubled = AtomisticDataModule(str(copper), str(copper))
    doubled.setup("fit")
    assert "Warning about the data" in capsys.readouterr().err
    frames = read(copper, ":")
    frames[3].calc.results["energy"] = float("nan")
    bad = tmp_path / "bad.extxyz"
    write(bad, frames)
    with pytest.raises(DataError, match="cu3"):
        AtomisticDataModule(str(bad)).setup("fit")


def test_early_stopping_test_and_predict(
    config: Config, tmp_path: Path, copper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(
        early_stopping_patience="2",
        trainer="{max_epochs: 50}",
        **{"model.lr": "1.0e-9", "data.test": str(copper), "data.predict": str(copper)},
    )
    folder = tmp_path / "run"
    options = ["--config", str(path), "--run_dir", str(folder)]
    main(["fit", *options])
    result = json.loads((folder / "result.json").read_text())
    assert result["epochs"] < 50
    assert result["reason"] == "early stopping"
    for command, title in (("validate", "Validation"), ("test", "Test")):
        capsys.readouterr()
        main([command, *options])
        printed = capsys.readouterr().out
        assert title in printed
        assert "forces_rmse" in printed
    main(["predict", *options])
    predicted = read(folder / "predictions.extxyz", ":")
    assert [atoms.info["sid"] for atoms in predicted] == [f"cu{i}" for i in range(24)]
    # Two processes would write their halves over each other.
    several = ["--trainer.accelerator", "cpu", "--trainer.devices", "2"]
    with pytest.raises(ConfigError, match="predict is asked for 2 processes"):
        main(["predict", *options, *several])
    potential = load_potential(folder / "best.safetensors", allow=[ToyBackbone, ToyHead])
    assert potential.metadata["training_data"]["count"] == {"train": 18, "val": 6}
    assert potential.metadata["training"]["step"] > 0


def test_print_config_is_a_configuration(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["fit", "--config", str(config()), "--print_config"])
    assert ending.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["lr"] == 0.01
    assert printed["model"]["backbone"]["init_args"]["cutoff"] == 4.0
    assert printed["trainer"]["max_epochs"] == 3


def test_later_configurations_win(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = tmp_path / "second.yaml"
    second.write_text("model: {lr: 0.5}\n")
    files = ["--config", str(config()), "--config", str(second)]
    with pytest.raises(SystemExit):
        main(["fit", *files, "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["model"]["lr"], printed["data"]["batch_size"]) == (0.5, 3)


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"model.lrr": "1"}, "Unknown key 'model.lrr'; did you mean 'model.lr'?"),
        ({"trainr": "{max_epochs: 1}"}, "did you mean 'trainer.max_epochs'?"),
        ({"model.lr": "fast"}, "model.lr is 'fast'. Expected a number."),
        ({"model.backbone": "{class_path: eSCNMDBackbon}"}, "did you mean 'eSCNMDBackbone'?"),
        ({"data.train": "nowhere.xyz"}, "The file 'nowhere.xyz' does not exist"),
        ({"data.val_fraction": "2"}, "val_fraction is 2.0. Expected from 0 to below 1."),
        ({"model.losses": "{energy: {name: maee}}"}, "did you mean 'mae'?"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(
    config: Config,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    extra: dict[str, str],
    sentence: str,
) -> None:
    arguments = ["s2ef", "fit", "--config", str(config(**extra)), "--run_dir", str(tmp_path / "r")]
    assert adatom(arguments) == 2
    complaint = capsys.readouterr().err
    assert sentence in complaint
    assert "Traceback" not in complaint
    assert "usage:" not in complaint


def test_an_unwritable_run_directory(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["s2ef", "fit", "--config", str(config()), "--run_dir", "/proc/run"]
    assert adatom(arguments) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["minimal", "realistic"])
def test_shipped_configurations_are_valid(
    repository: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = repository / "configs" / f"{name}.yaml"
    assert name != "minimal" or len(path.read_text().splitlines()) <= 15
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(path), "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["backbone"]["class_path"] == "adatom.models.escn_md.eSCNMDBackbone"
