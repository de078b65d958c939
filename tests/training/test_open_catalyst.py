"""S2EF and IS2RE as the Open Catalyst code has them: presets, configuration, and end to end."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ase.io import read, write

from adatom.checkpoint.format import load_potential
from adatom.cli.main import main as adatom
from adatom.core.errors import ConfigError, UnknownNameError
from adatom.tasks.task import Normalizer
from adatom.training.data_module import AtomisticDataModule
from adatom.training.module import IS2RELightningModule, IS2RELitModule, S2EFLightningModule
from adatom.training.normalize_kwargs import NormalizeKwargs
from adatom.training.torch_optimizer import TorchClass, torch_optimizer, torch_schedule
from toy_backbone import ToyBackbone, ToyHead, toy_potential

Config = Callable[..., Path]
ALLOWED = [ToyBackbone, ToyHead]
QUICK = ["--report=false", "--data.check=false", "--logging.every_n_steps=1"]


@pytest.fixture(scope="session")
def relaxed_copper(copper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the copper cells with a made-up relaxed energy and nothing else."""
    frames = read(copper, ":")
    for atoms in frames:
        energy = atoms.get_potential_energy()
        atoms.calc = None
        atoms.info["relaxed_energy"] = 0.5 * energy - 0.1 * len(atoms)
    path = tmp_path_factory.mktemp("relaxed") / "relaxed.extxyz"
    write(path, frames)
    return path


def losses(folder: Path, column: str = "train/loss") -> list[float]:
    with (folder / "metrics.csv").open() as stream:
        return [float(row[column]) for row in csv.DictReader(stream) if row[column]]


def test_the_configuration_of_the_issue_runs(
    repository: Path, shared: Path, tmp_path: Path
) -> None:
    text = (repository / "configs" / "open_catalyst.yaml").read_text(encoding="utf-8")
    path = tmp_path / "open_catalyst.yaml"
    path.write_text(text.replace("../shared", str(shared)), encoding="utf-8")
    few = {"path": str(shared / "data/oc20_relaxations/s2ef_train.aselmdb"), "index": "::60"}
    options = ["--data.init_args.train_path", json.dumps(few), "--data.init_args.check=false"]
    options += ["--run_dir", str(tmp_path / "run"), "--trainer.strategy=null"]
    options += ["--logging.every_n_steps=1", "--data.init_args.batch_size=5"]
    options += ["--data.init_args.val_fraction=0", "--report=false"]
    assert adatom(["s2ef", "fit", "--config", str(path), *options]) == 0
    assert len(losses(tmp_path / "run")) == 3
    # The learning rate falls by ten after the epoch, which has two steps here (log: of the next).
    assert losses(tmp_path / "run", "train/lr") == pytest.approx([5e-4, 5e-5, 5e-5])
    potential = load_potential(tmp_path / "run" / "best.safetensors")
    energy = potential.task_for("default", "energy")
    assert energy.normalizer == Normalizer(-0.7554, 2.8873)
    assert energy.element_references is None
    assert potential.task_for("default", "forces").inference_only


def test_energies_and_forces_from_fit_to_predict(
    config: Config, copper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config()
    extra = tmp_path / "more.yaml"
    metrics = {"energy": ["mae", "EwT", "EFwT"], "forces": ["mae", "cosine"]}
    more = {
        "model": {"metrics": metrics, "normalize_kwargs": {"target_std": 2.0}},
        "data": {"val": str(copper), "test": str(copper), "predict": str(copper)},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 1e-4, "momentum": 0.9}},
        "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.ConstantLR"},
        "lr_scheduler_interval": "step",
    }
    extra.write_text(yaml.safe_dump(more))
    both = ["--config", str(path), "--config", str(extra), "--run_dir", str(tmp_path / "run")]
    # What the toy configuration says of our own optimizer is not left over silently.
    assert adatom(["s2ef", "fit", *both, *QUICK]) == 2
    assert "model.lr is set, which does nothing beside optimizer" in capsys.readouterr().err
    both += ["--model.lr", "0.001", *QUICK]
    assert adatom(["s2ef", "fit", *both]) == 0
    # A third of the learning rate for five steps.
    rates = losses(tmp_path / "run", "train/lr")
    assert rates[:4] == [pytest.approx(1e-4 / 3)] * 4
    assert rates[-1] == pytest.approx(1e-4)
    capsys.readouterr()
    for verb in ("validate", "test"):
        assert adatom(["s2ef", verb, *both]) == 0
        shown = capsys.readouterr().out
        for name in ("energy_EwT", "energy_EFwT", "energy_mae", "forces_cosine", "forces_mae"):
            assert name in shown
    assert adatom(["s2ef", "predict", *both]) == 0
    predicted = read(tmp_path / "run" / "predictions.extxyz", ":")
    assert len(predicted) == 24
    assert predicted[0].get_forces().shape == (4, 3)


def test_without_forces_nothing_about_forces_is_computed(
    config: Config, copper: Path, tmp_path: Path
) -> None:
    options = ["--config", str(config()), "--run_dir", str(tmp_path / "run"), *QUICK]
    options += ["--model.regress_forces=false", "--data.predict", str(copper)]
    assert adatom(["s2ef", "fit", *options]) == 0
    with (tmp_path / "run" / "metrics.csv").open() as stream:
        assert not any("forces" in name for name in next(csv.reader(stream)))
    assert adatom(["s2ef", "predict", *options]) == 0
    atoms = read(tmp_path / "run" / "predictions.extxyz", 0)
    assert set(atoms.calc.results) & {"energy", "forces", "stress"} == {"energy"}


def test_relaxed_energies_from_fit_to_predict(
    config: Config, relaxed_copper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    data = {name: str(relaxed_copper) for name in ("train", "val", "test", "predict")}
    sources = [f"--data.{name}={path}" for name, path in data.items()]
    options = ["--config", str(config()), "--run_dir", str(run), *sources, *QUICK]
    options += ["--trainer.max_epochs=12", "--model.ema_decay=0.0"]
    assert adatom(["is2re", "fit", *options]) == 0
    errors = losses(run, "val/relaxed_energy_mae")
    assert errors[-1] < 0.8 * errors[0]
    capsys.readouterr()
    assert adatom(["is2re", "test", *options]) == 0
    shown = capsys.readouterr().out
    assert "relaxed_energy_EwT" in shown
    assert adatom(["is2re", "predict", *options]) == 0
    predicted = read(run / "predictions.extxyz", ":")
    labels = read(relaxed_copper, ":")
    error = [
        abs(p.info["relaxed_energy"] - t.info["relaxed_energy"])
        for p, t in zip(predicted, labels, strict=True)
    ]
    best = json.loads((run / "result.json").read_text())["best"]
    assert sum(error) / len(error) == pytest.approx(best["val/relaxed_energy_mae"], rel=1e-5)
    # The verbs that need forces say that there are none.
    allow = ["--allow", "toy_backbone.ToyBackbone", "--allow", "toy_backbone.ToyHead"]
    model = str(run / "best.safetensors")
    out = str(tmp_path / "out.xyz")
    assert adatom([*allow, "predict", str(relaxed_copper), "-o", out, "--model", model]) == 0
    assert [a.info["relaxed_energy"] for a in read(out, ":")] == pytest.approx(
        [a.info["relaxed_energy"] for a in predicted], rel=1e-6
    )
    assert adatom([*allow, "relax", str(relaxed_copper), "-o", out, "--model", model]) == 2
    assert (
        "relaxed energies for the task 'default', which have no forces" in capsys.readouterr().err
    )
    assert adatom(["s2ef", "test", *options, "--checkpoint_path", model]) == 2
    assert "Use 'adatom is2re'" in capsys.readouterr().err


def test_relaxed_energies_through_relaxation(
    config: Config, tmp_path: Path, relaxed_copper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from adatom.checkpoint.format import save_potential

    potential = toy_potential()
    save_potential(potential, tmp_path / "toy.safetensors")
    allow = ["--allow", "toy_backbone.ToyBackbone", "--allow", "toy_backbone.ToyHead"]
    out = tmp_path / "out.extxyz"
    words = ["is2re", "relax", str(tmp_path / "toy.safetensors"), str(relaxed_copper)]
    options = ["--index", ":2", "--steps", "3", "--output", str(out)]
    assert adatom([*allow, *words, *options]) == 0
    shown = capsys.readouterr().err
    frames = read(out, ":")
    labels = [a.info["relaxed_energy"] for a in read(relaxed_copper, ":2")]
    energies = [a.get_potential_energy() for a in frames]
    mean = sum(abs(e - t) for e, t in zip(energies, labels, strict=True)) / 2
    assert f"Energy MAE {mean:.4f} eV" in shown
    assert "over 2 labels" in shown
    assert frames[0].info["steps"] == 3


def module(**kwargs: Any) -> S2EFLightningModule:
    return S2EFLightningModule(ToyBackbone(), ToyHead(), **kwargs)


def test_two_names_for_the_network(copper: Path) -> None:
    network = ToyBackbone()
    assert S2EFLightningModule(gnn=network).backbone is network
    with pytest.raises(ConfigError, match="backbone and gnn"):
        S2EFLightningModule(network, gnn=network)
    with pytest.raises(ConfigError, match="neither backbone, gnn nor start_from"):
        IS2RELitModule()


def test_normalizers_of_a_derivative_agree() -> None:
    data = list(toy_potential().tasks)
    same = NormalizeKwargs(target_mean=-1.0, target_std=2.0, grad_target_std=2.0)
    tasks = module(normalize_kwargs=same).prepare_tasks(data, ["energies"])
    assert [task.normalizer for task in tasks] == [
        Normalizer(-1.0, 2.0),
        *[Normalizer(0.0, 2.0)] * 2,
    ]
    assert all(task.element_references is None for task in tasks)
    other = NormalizeKwargs(target_std=2.0, grad_target_std=3.0)
    with pytest.raises(ConfigError, match="two equal standard deviations"):
        module(normalize_kwargs=other).prepare_tasks(data, ["energies"])
    direct = module(normalize_kwargs=other).prepare_tasks(data[:2], ["energies", "forces"])
    assert direct[1].normalizer == Normalizer(0.0, 3.0)
    shifted = NormalizeKwargs(grad_target_mean=0.1)
    with pytest.raises(ConfigError, match="grad_target_mean 0"):
        module(normalize_kwargs=shifted).prepare_tasks(data, ["energies"])
    with pytest.raises(ConfigError, match=r"target_std is 0\.0"):
        NormalizeKwargs(target_std=0.0)


def test_contradictions_are_refused() -> None:
    with pytest.raises(ConfigError, match="regress_forces is false, but there is a loss of forces"):
        module(regress_forces=False, losses={"forces": {"name": "mae"}})
    with pytest.raises(ConfigError, match="IS2RE model has a loss of energy"):
        IS2RELightningModule(ToyBackbone(), losses={"energy": {"name": "mae"}})


@pytest.mark.parametrize(
    ("class_path", "arguments", "sentence"),
    [
        ("torch.optim.Adm", {}, "did you mean 'Adam'"),
        ("torch.optim.LBFGS", {}, "Unknown optimizer.class_path"),
        ("os.system", {}, "Unknown optimizer.class_path 'os.system'"),
        ("torch.optim.Adam", {"lrr": 1.0}, "did you mean 'lr'"),
        ("torch.optim.Adam", {"lr": -1.0}, "refuses its arguments: Invalid learning rate"),
    ],
)
def test_optimizers_of_torch(class_path: str, arguments: dict[str, Any], sentence: str) -> None:
    weights = [torch.nn.Parameter(torch.ones(2))]
    with pytest.raises((ConfigError, UnknownNameError)) as found:
        torch_optimizer(weights, TorchClass(class_path, arguments))
    assert sentence in str(found.value)


def test_schedules_of_torch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=1.0)
    chosen = TorchClass("torch.optim.lr_scheduler.ReduceLROnPlateau", {"patience": 2})
    assert torch_schedule(optimizer, chosen, "epoch")["monitor"] == "val/loss"
    with pytest.raises(UnknownNameError, match="ExponentialLR"):
        torch_schedule(optimizer, TorchClass("torch.optim.lr_scheduler.ExponentLR"), "epoch")


@pytest.mark.parametrize("verb", ["s2ef", "is2re"])
def test_python_runs_the_verbs_too(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import runpy

    monkeypatch.setattr(sys, "argv", [verb, "fot"])
    with pytest.raises(SystemExit) as ending:
        runpy.run_module(f"adatom.training.{verb}", run_name="__main__")
    assert ending.value.code == 2
    assert "did you mean 'fit'" in capsys.readouterr().err
    importlib.import_module(f"adatom.training.{verb}")  # does nothing by itself


def test_learning_rate_and_batch_size(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    options = ["--config", str(config()), "--run_dir", str(run), "--data.check=false"]
    assert adatom(["s2ef", "lr_find", *options, "--min_lr=1e-4", "--max_lr=10"]) == 0
    shown = capsys.readouterr().err
    assert "To use it: --model.lr" in shown
    found = float(shown.split("--model.lr")[1].split()[0])
    assert 1e-4 < found < 1.0
    assert adatom(["s2ef", "scale_batch", *options, "--max_batch_size=8"]) == 0
    shown = capsys.readouterr().err
    assert "To use them: --data.batch_size" in shown
    assert "max_batch_size is 8" in shown
    assert not (run / "config.yaml").exists()
    assert adatom(["s2ef", "lr_find", *options, "--num_steps=3"]) == 2
    assert "at least 10 steps" in capsys.readouterr().err


def test_data_in_both_forms_are_the_same(config: Config, copper: Path, tmp_path: Path) -> None:
    flat = config()
    tree = yaml.safe_load(flat.read_text())
    tree["data"] = {"class_path": "AtomisticDataModule", "init_args": tree["data"]}
    wrapped = tmp_path / "wrapped.yaml"
    wrapped.write_text(yaml.safe_dump(tree))
    for name, path in (("flat", flat), ("wrapped", wrapped)):
        words = ["--config", str(path), "--run_dir", str(tmp_path / name), "--seed_everything=3"]
        assert adatom(["s2ef", "fit", *words, "--trainer.max_epochs=1"]) == 0
    assert losses(tmp_path / "flat") == losses(tmp_path / "wrapped")
    # The run directory's own configuration continues the run.
    again = ["--config", str(tmp_path / "wrapped" / "config.yaml"), "--run_dir"]
    assert adatom(["s2ef", "fit", *again, str(tmp_path / "wrapped")]) == 0


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("data", {"class_path": "DGLDataModul"}, "did you mean 'DGLDataModule'"),
        ("data", {"class_path": "DGLDataModule", "init_args": {"batchsize": 2}}, "batchsize"),
        (
            "data",
            {"class_path": "DGLDataModule", "init_args": {"train_path": "nowhere.lmdb"}},
            "nowhere.lmdb",
        ),
        ("optimizer", {"class_path": "torch.optim.Adm"}, "did you mean 'Adam'"),
        ("model", {"gnn": {"class_path": "GraphConvModl"}}, "did you mean 'GraphConvModel'"),
        (
            "model",
            {"tasks": [{"name": "e", "property": "energy", "los_fn": {"name": "mae"}}]},
            "In 'model.tasks': Unknown key 'los_fn.name'; did you mean 'loss_fn'",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    key: str,
    value: dict[str, Any],
    sentence: str,
    config: Config,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "wrong.yaml"
    tree = yaml.safe_load(config().read_text())
    if key == "model":
        tree["model"].pop("backbone")
        tree["model"].setdefault("gnn", {"class_path": "toy_backbone.ToyBackbone"})
        tree["model"] |= value
    else:
        tree[key] = value
    path.write_text(yaml.safe_dump(tree))
    assert adatom(["s2ef", "fit", "--config", str(path), "--run_dir", str(tmp_path / "run")]) == 2
    complaint = capsys.readouterr().err
    assert sentence in complaint
    assert complaint.count("\n") == 1


def test_tf32_is_allowed_in_the_steps_only(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    step, validation = S2EFLightningModule.training_step, S2EFLightningModule.validation_step

    def spy(what: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: S2EFLightningModule, *args: Any) -> Any:
            seen.append((what, torch.get_float32_matmul_precision()))
            return original(self, *args)

        return call

    monkeypatch.setattr(S2EFLightningModule, "training_step", spy("train", step))
    monkeypatch.setattr(S2EFLightningModule, "validation_step", spy("val", validation))
    options = ["--config", str(config()), "--run_dir", str(tmp_path / "run"), *QUICK]
    options += ["--trainer.max_epochs=1"]
    assert adatom(["s2ef", "fit", *options, "--model.tf32"]) == 0
    assert set(seen) == {("train", "high"), ("val", "highest")}
    assert torch.get_float32_matmul_precision() == "highest"


def test_references_and_scale_of_relaxed_energies(relaxed_copper: Path) -> None:
    data = AtomisticDataModule(str(relaxed_copper), val_fraction=0.0, check=False)
    data.setup("fit")
    fact = data.facts["default"]
    assert fact.references is None
    assert fact.relaxed_references is not None
    energies = [a.info["relaxed_energy"] for a in read(relaxed_copper, ":")]
    atoms = [len(a) for a in read(relaxed_copper, ":")]
    # One element: least squares is sum(n E) / sum(n n).
    slope = sum(n * e for n, e in zip(atoms, energies, strict=True)) / sum(n * n for n in atoms)
    assert float(fact.relaxed_references[29]) == pytest.approx(slope, rel=1e-10)
    rest = sum((e - n * slope) ** 2 for n, e in zip(atoms, energies, strict=True))
    assert fact.relaxed_scale == pytest.approx((rest / 23) ** 0.5, rel=1e-8)
