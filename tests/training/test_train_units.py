"""What the units can do beside training: tasks from a configuration, precision, reports."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.io import read, write
from lightning.pytorch import Trainer

from adatom.checkpoint.format import load_potential
from adatom.cli.s2ef import main
from adatom.core.errors import ConfigError, MissingLabelError, UnknownNameError
from adatom.models.escn_md import eSCNMDBackbone
from adatom.models.heads import Heads
from adatom.tasks.domain import Domain
from adatom.tasks.task import Normalizer, OutputSpec, Task
from adatom.training.conservative import to_conservative
from adatom.training.data_module import AtomisticDataModule
from adatom.training.flops import profile_flops
from adatom.training.loggers import CsvMetrics
from adatom.training.logging_callback import MetricsLogging
from adatom.training.module import MLIPEvalUnit, MLIPTrainEvalUnit, S2EFLightningModule
from adatom.training.optimizer import adamw, parameter_groups
from adatom.training.quiet import quiet_lightning
from adatom.training.schedule import CosineWithWarmup, unshifted_cosine_with_warmup
from adatom.training.sources import DatasetFacts, DataSource
from adatom.training.tasks_from_data import TaskSpec, check_scales, resolve_tasks, with_losses
from toy_backbone import ToyBackbone, ToyHead, toy_potential

DIRECT = {
    "energy": {"class_path": "EnergyHead", "init_args": {"num_channels": 8, "hidden_channels": 8}},
    "forces": {"class_path": "ForceHead", "init_args": {"num_channels": 8}},
}


def small_backbone() -> eSCNMDBackbone:
    width = {"sphere_channels": 8, "hidden_channels": 8, "edge_channels": 8}
    return eSCNMDBackbone(**width, num_distance_basis=8, cutoff=4.0, max_neighbors=10)


def engine(folder: Path, **more: Any) -> Trainer:
    options: dict[str, Any] = {
        "inference_mode": False,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    return Trainer(**options | more)


def fit(
    unit: MLIPTrainEvalUnit, data: AtomisticDataModule, folder: Path, **more: Any
) -> dict[str, float]:
    with quiet_lightning():
        trainer = engine(folder, **more)
        trainer.fit(unit, datamodule=data)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def copper_data(copper: Path, **options: Any) -> AtomisticDataModule:
    return AtomisticDataModule(
        str(copper), **{"val_fraction": 0.25, "batch_size": 6, "check": False} | options
    )


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def facts(scale: float = 2.0, **labelled: int) -> DatasetFacts:
    table = torch.full((119,), -1.0, dtype=torch.float64)
    domain = Domain((29,), (0,), (0,))
    return DatasetFacts(table, True, scale, domain, labelled or {"energy": 3, "forces": 2}, 3)


def test_open_ends_of_a_task_come_from_the_data() -> None:
    known = {"a": facts(), "b": facts(energy=3)}
    loss = {"name": "mae", "coefficient": 2.0}
    specs = [
        TaskSpec(name="a_energy", property="energy", datasets=["a"], loss_fn=loss),
        TaskSpec(
            name="b_energy",
            property="energy",
            datasets=["b"],
            normalizer=Normalizer(0.5, 2.0),
            element_references={"Cu": -3.5},
            metrics=["mae"],
        ),
        TaskSpec(name="forces", property="forces", loss_fn=loss, eval_on_free_atoms=False),
    ]
    first, second, forces = resolve_tasks(specs, known)
    assert first.normalizer == forces.normalizer == Normalizer(0.0, 2.0)
    assert first.element_references is known["a"].references
    assert second.element_references is not None
    assert second.element_references[[28, 29]].tolist() == [0.0, -3.5]
    assert (second.normalizer.mean, second.metrics, second.inference_only) == (0.5, ["mae"], True)
    assert (forces.datasets, forces.level, forces.eval_on_free_atoms) == (["a", "b"], "atom", False)
    assert not forces.inference_only


LOSS = {"name": "mae"}


@pytest.mark.parametrize(
    ("error", "sentence", "spec"),
    [
        (UnknownNameError, "did you mean 'forces'", {"property": "force"}),
        (UnknownNameError, "did you mean 'oc20'", {"datasets": ["oc2"]}),
        (UnknownNameError, "did you mean 'mae'", {"loss_fn": {"name": "maee"}}),
        (UnknownNameError, "Unknown metric", {"metrics": ["cosine_similarity"]}),
        (
            UnknownNameError,
            "Unknown element",
            {"datasets": ["oc20"], "element_references": {"Xx": 1.0}},
        ),
        (ConfigError, "those of 2 datasets", {"normalizer": Normalizer()}),
        (ConfigError, "No task has the energy of dataset 'omol'", {"datasets": ["oc20"]}),
        (ConfigError, "2 different scales", {"element_references": {"Cu": 1.0}}),
        (
            ConfigError,
            "for energies only",
            {"property": "forces", "datasets": ["oc20"], "element_references": {}},
        ),
        (
            MissingLabelError,
            "task 't' with a loss",
            {"property": "stress", "datasets": ["oc20"], "loss_fn": LOSS},
        ),
    ],
)
def test_mistakes_in_tasks_are_named(
    error: type[Exception], sentence: str, spec: dict[str, Any]
) -> None:
    known = {"oc20": facts(), "omol": facts(3.0)}
    with pytest.raises(error, match=sentence):
        resolve_tasks([TaskSpec(**{"name": "t", "property": "energy"} | spec)], known)


def test_two_tasks_of_one_name_and_contradicting_scales() -> None:
    spec = TaskSpec(name="t", property="energy")
    with pytest.raises(ConfigError, match="Two tasks are called 't'"):
        resolve_tasks([spec, spec], {"a": facts()})
    tasks = [
        Task("e", "system", "energy", OutputSpec((1,)), Normalizer(1.0, 2.0), ["a"]),
        Task("f", "atom", "forces", OutputSpec((3,)), Normalizer(0.0, 3.0), ["a"]),
    ]
    check_scales(tasks, ["forces"])
    with pytest.raises(ConfigError, match="its derivative"):
        check_scales(tasks, [])


def test_losses_are_replaced_by_property() -> None:
    tasks = with_losses(toy_potential().tasks, {"forces": {"name": "mse"}})
    assert [t.inference_only for t in tasks] == [True, False, True]
    assert tasks[1].loss_fn == {"name": "mse"}


def test_a_unit_needs_one_beginning() -> None:
    with pytest.raises(ConfigError, match="neither of backbone and potential"):
        MLIPTrainEvalUnit()
    with pytest.raises(ConfigError, match="both of backbone and potential"):
        MLIPTrainEvalUnit(ToyBackbone(), potential=toy_potential())
    with pytest.raises(ConfigError, match="tasks are given beside losses"):
        MLIPTrainEvalUnit(ToyBackbone(), tasks=[], losses={})


def test_direct_pretraining_then_conserving(copper: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    losses = {"energy": {"name": "per_atom_mae"}, "forces": {"name": "l2norm"}}
    first = MLIPTrainEvalUnit(small_backbone(), Heads(DIRECT), losses=losses, lr=0.01)
    fit(first, copper_data(copper), tmp_path, max_epochs=2)
    direct = first.average.module
    conserving = to_conservative(direct, max_neighbors=30)
    assert direct.direct_properties == ["forces"]
    assert conserving.direct_properties == []
    assert conserving.max_neighbors == 30
    assert conserving.backbone.init_args["max_neighbors"] == 30
    data = copper_data(copper)
    data.setup("fit")
    # The network has not changed: with equal neighbor lists the energies are the same.
    batch = data.systems("val")[0].with_edges(4.0)
    energies = [p(batch, ["energy"])["energy"].detach() for p in (direct, conserving)]
    torch.testing.assert_close(*energies, atol=1e-6, rtol=0)  # threads add in any order
    predicted = conserving(batch, ["forces"])["forces"]
    assert float(predicted.sum(dim=0).detach().abs().max()) < 1e-5
    conserving.requires_grad_(requires_grad=True)
    second = MLIPTrainEvalUnit(potential=conserving, losses=losses, lr=0.001)
    fit(second, data, tmp_path, max_epochs=1)
    assert second.potential.backbone is conserving.backbone
    before, after = (u.average.module.backbone.state_dict() for u in (first, second))
    assert any(not torch.equal(after[name], value) for name, value in before.items())
    with pytest.raises(ConfigError, match="derivatives of its energy already"):
        to_conservative(conserving)


@pytest.mark.parametrize("direct", [True, False])
def test_bf16_trains_and_leaves_weights_and_validation_alone(
    copper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], direct: bool
) -> None:
    losses = {"energy": {"name": "per_atom_mae"}, "forces": {"name": "l2norm"}}
    first = []
    for bf16 in (False, True):
        torch.manual_seed(0)
        head = Heads(DIRECT) if direct else None
        unit = MLIPTrainEvalUnit(
            small_backbone(), head, losses=losses, lr=0.01, ema_decay=0.5, bf16=bf16
        )
        seen = {}

        def look(module: torch.nn.Module, *_: Any, seen: dict[bool, bool] = seen) -> None:
            trained = next(module.parameters()).requires_grad
            seen[trained] = torch.is_autocast_enabled("cpu")

        unit.backbone.register_forward_hook(look)
        fit(unit, copper_data(copper), tmp_path, max_steps=1, max_epochs=-1)
        assert seen[True] == bf16
        first.append(float(unit.last["loss"]))
    assert first[0] != first[1] == pytest.approx(first[0], rel=0.02)
    results = fit(unit, copper_data(copper), tmp_path, max_epochs=1)
    assert seen == {True: True, False: False}
    warned = "bf16 loses digits of forces" in capsys.readouterr().err
    assert warned != direct
    if direct:
        again = fit(unit, copper_data(copper), tmp_path, max_epochs=4)
        assert again["val/loss"] < results["val/loss"]
    assert {p.dtype for p in unit.parameters()} == {torch.float32}


def test_checksums_and_operations_are_written(copper: Path, tmp_path: Path) -> None:
    unit = S2EFLightningModule(
        ToyBackbone(), ToyHead(), debug_checksums=True, profile_flops=True, lr=0.01
    )
    fit(unit, copper_data(copper), tmp_path, max_epochs=1)
    rows = table(tmp_path / "checksums_rank0of1.csv")
    names = [name for name, p in unit.potential.named_parameters() if p.requires_grad]
    assert {row["step"] for row in rows} == {"1", "2", "3"}
    for kind in ("parameter", "gradient"):
        assert [r["name"] for r in rows if r["kind"] == kind and r["step"] == "2"] == names
    assert sum(row["kind"] == "loss" for row in rows) == 3
    found = json.loads((tmp_path / "flops.json").read_text())
    assert found["total"] == found["forward"] + found["backward"]
    # The embedding is no product; three linear layers are, and so are those of the backward pass.
    assert found["backward"] >= 2 * 2 * (2 * 16 + 4)


def test_operations_of_a_linear_layer(copper: Path) -> None:
    data = copper_data(copper)
    data.setup("fit")
    batch = data.systems("train")[0].with_edges(4.0)
    layer, rows = torch.nn.Linear(3, 5, bias=False), torch.ones(7, 3)
    found = profile_flops(layer, batch, lambda _: layer(rows).sum())
    # A multiplication and an addition each; the rows need no gradient, the weights do.
    assert found["forward"] == found["backward"] == 2 * 7 * 3 * 5
    assert found["per_atom"] == found["total"] / batch.num_atoms
    assert layer.weight.grad is None


def test_counting_operations_changes_nothing(copper: Path, tmp_path: Path) -> None:
    curves = []
    for profile in (False, True):
        torch.manual_seed(0)
        unit = S2EFLightningModule(ToyBackbone(), ToyHead(), profile_flops=profile)
        curves.append(fit(unit, copper_data(copper), tmp_path, max_epochs=1))
    assert curves[0] == curves[1]


def test_speed_is_logged_beside_what_repeats(copper: Path, tmp_path: Path) -> None:
    unit = S2EFLightningModule(ToyBackbone(), ToyHead())
    log, callbacks = CsvMetrics(tmp_path / "metrics.csv"), [MetricsLogging(every_n_steps=1)]
    fit(unit, copper_data(copper), tmp_path, max_epochs=2, logger=[log], callbacks=callbacks)
    rows = table(tmp_path / "speed.csv")
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    for row in rows:
        atoms, structures, edges = (
            float(row[f"train/{n}_per_second"]) for n in ("atoms", "structures", "edges")
        )
        assert 4.0 <= atoms / structures <= 8.0
        assert edges > atoms
    assert "per_second" not in (tmp_path / "metrics.csv").read_text()


def test_an_evaluation_does_not_depend_on_batches(copper: Path, tmp_path: Path) -> None:
    potential = toy_potential()
    losses = {"energy": {"name": "per_atom_mae"}, "forces": {"name": "l2norm"}}
    found = []
    for size in (1, 5):
        data = AtomisticDataModule(test=str(copper), batch_size=size, eval_factor=1, check=False)
        unit = MLIPEvalUnit(potential, losses=losses, metrics={"forces": ["mae"]})
        with quiet_lightning():
            trainer = engine(tmp_path)
            trainer.test(unit, datamodule=data, verbose=False)
        found.append({k: float(v) for k, v in trainer.callback_metrics.items()})
    assert found[0] == pytest.approx(found[1], rel=1e-10)
    assert {"test/loss", "test/forces_mae", "test/stress_mae"} <= set(found[0])
    assert "test/forces_rmse" not in found[0]
    frames = read(copper, ":")
    system = data.systems("test")[0]
    raw = potential(system.with_edges(4.0), ["forces"])
    ours = potential.denormalize(raw, system)["forces"].detach().numpy()
    assert ours.shape == frames[0].arrays["positions"].shape


def test_fairchem_schedule_is_not_shifted() -> None:
    arguments = {"total": 100, "warmup": 10, "warmup_factor": 0.2, "min_factor": 0.01}
    factors = [unshifted_cosine_with_warmup(step, **arguments) for step in range(102)]
    assert factors[0] == pytest.approx(0.2)
    assert factors[10] == 1.0
    # Figures of fairchem-core 2.24 (see the reference): the cosine began under the warm-up.
    assert factors[11] == pytest.approx(0.971, abs=5e-4)
    assert factors[50] == pytest.approx(0.505)
    assert factors[100] == factors[101] == 0.01
    optimizer = adamw(ToyBackbone(), lr=2.0, weight_decay=0.1)
    schedule = CosineWithWarmup(optimizer, total=100, warmup=0, kind="fairchem_cosine")
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.4)
    again = json.loads(json.dumps(schedule.state_dict()))
    schedule.load_state_dict(again)
    with pytest.raises(UnknownNameError, match="did you mean 'cosine'"):
        CosineWithWarmup(optimizer, total=1, warmup=0, kind="cosin")


def test_one_group_if_asked_for() -> None:
    optimizer = adamw(ToyBackbone(), lr=1.0, weight_decay=0.5, legacy_single_group=True)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5]
    groups = parameter_groups(ToyBackbone(), legacy_single_group=True)
    assert len(groups.decay) == len(list(ToyBackbone().parameters()))
    unit = MLIPTrainEvalUnit(potential=toy_potential(), legacy_single_group=True)
    unit.use(toy_potential())
    assert unit.parameter_groups.no_decay == ()


def test_the_run_directory_lists_the_groups_that_are_used(
    config: Callable[..., Path], tmp_path: Path
) -> None:
    path = config(trainer="{max_epochs: 1}", **{"model.legacy_single_group": "true"})
    main(["fit", "--config", str(path), "--run_dir", str(tmp_path / "run")])
    listed = (tmp_path / "run" / "parameters.txt").read_text()
    assert "Weight decay (7)" in listed
    assert "No weight decay (0)" in listed


def test_tasks_and_several_batches_per_step_from_a_configuration(
    copper: Path, tmp_path: Path
) -> None:
    path = tmp_path / "tasks.yaml"
    path.write_text(
        f"""
model:
  backbone: {{class_path: toy_backbone.ToyBackbone}}
  head: {{class_path: toy_backbone.ToyHead}}
  train_strategy: ddp
  loss_mean: task
  tasks:
    - name: cu_energy
      property: energy
      datasets: [cu]
      loss_fn: {{name: per_atom_mae, coefficient: 20}}
      element_references: {{Cu: -3.2}}
      normalizer: {{mean: 0.0, rmsd: 1.5}}
    - {{name: forces, property: forces, loss_fn: {{name: l2norm}}, normalizer: {{rmsd: 1.5}}}}
data: {{train: {{path: {copper}, dataset: cu}}, val_fraction: 0.25, batch_size: 6}}
trainer: {{max_epochs: 2, accumulate_grad_batches: 2}}
logging: {{every_n_steps: 1}}
"""
    )
    main(["fit", "--config", str(path), "--run_dir", str(tmp_path / "run")])
    rows = table(tmp_path / "run" / "metrics.csv")
    # 18 structures are 3 batches, hence 2 steps in each epoch.
    assert [row["step"] for row in rows if row["train/loss"]] == ["1", "2", "3", "4"]
    assert {"train/cu_energy_loss", "train/forces_loss", "val/energy_per_atom_mae"} <= set(rows[0])
    potential = load_potential(tmp_path / "run" / "best.safetensors", allow=[ToyBackbone, ToyHead])
    energy = potential.task_for("cu", "energy")
    assert energy.normalizer == Normalizer(0.0, 1.5)
    assert energy.element_references is not None
    assert float(energy.element_references[29]) == -3.2


def test_a_structure_weighs_the_same_unless_each_task_has_its_mean(
    copper: Path, tmp_path: Path
) -> None:
    frames = read(copper, ":4")
    write(tmp_path / "three.extxyz", frames[:3])
    write(tmp_path / "one.extxyz", frames[3:])
    values = {}
    for mean in ("task", "property"):
        data = AtomisticDataModule(
            [DataSource(path=str(tmp_path / f"{n}.extxyz"), dataset=n) for n in ("three", "one")],
            batch_size=4,
            val_fraction=0.0,
            check=False,
        )
        torch.manual_seed(0)
        loss = {"energy": {"name": "mae"}}
        unit = MLIPTrainEvalUnit(ToyBackbone(), ToyHead(), losses=loss, loss_mean=mean)  # type: ignore[arg-type]
        fit(unit, data, tmp_path, max_steps=1, max_epochs=-1)
        values[mean] = {name: float(value) for name, value in unit.last.items()}
    one, three = (values["task"][f"{n}_energy_loss"] for n in ("one", "three"))
    assert values["task"]["loss"] == pytest.approx(one + three)
    assert values["property"]["loss"] == pytest.approx((one + 3.0 * three) / 4.0)
