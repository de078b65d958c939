"""The look at a run before its first step: what it finds and stops, and that it leaves no trace."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import read, write
from lightning.pytorch import Trainer
from processes import together
from torch import nn

from adatom.cli.main import main as adatom
from adatom.core.errors import AdatomError, DataError, NonFiniteError
from adatom.data.atomic_data import AtomicData, collate
from adatom.models.base import NodeFeatures
from adatom.models.escn_md import eSCNMDBackbone
from adatom.training.data_module import AtomisticDataModule
from adatom.training.loggers import CsvMetrics
from adatom.training.logging_callback import MetricsLogging
from adatom.training.module import S2EFLightningModule
from adatom.training.preflight import Preflight, PreflightDone
from adatom.training.preflight.forecast import forecast, measure
from adatom.training.quiet import quiet_lightning
from adatom.training.train_strategy import TrainStrategy
from toy_backbone import ToyBackbone, ToyHead

Config = Callable[..., Path]


class RestlessBackbone(ToyBackbone):
    """Draws random numbers and counts its calls: what a preflight could disturb."""

    def __init__(self, num_channels: int) -> None:
        super().__init__(num_channels=num_channels)
        self.dropout = nn.Dropout(0.3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("not_saved", torch.zeros(()), persistent=False)

    def forward(self, data: Any, edges: Any) -> NodeFeatures:
        self.calls += 1
        self.not_saved += torch.randn(())
        scalars = super().forward(data, edges).scalars
        return NodeFeatures(self.dropout(scalars) + 1e-3 * self.not_saved)


def unit(kind: type[ToyBackbone] = ToyBackbone, **options: Any) -> S2EFLightningModule:
    torch.manual_seed(0)
    return S2EFLightningModule(kind(num_channels=9), ToyHead(9, 1.0), **options)


def fit(
    module: S2EFLightningModule,
    data: AtomisticDataModule,
    folder: Path,
    *callbacks: Any,
    **options: Any,
) -> Trainer:
    folder.mkdir(exist_ok=True)
    settings: dict[str, Any] = {"max_epochs": 1, "logger": False} | options
    with quiet_lightning():
        engine = Trainer(
            inference_mode=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=folder,
            callbacks=list(callbacks),
            **settings,
        )
        engine.fit(module, datamodule=data)
    return engine


def look(data: AtomisticDataModule, folder: Path, **unit_options: Any) -> dict[str, Any]:
    """Return what a preflight finds."""
    with pytest.raises(PreflightDone):
        fit(unit(**unit_options), data, folder, Preflight(only=True))
    found: dict[str, Any] = json.loads((folder / "preflight.json").read_text())
    return found


def relabelled(copper: Path, path: Path, change: Callable[[Atoms], None]) -> str:
    """Write the copper structures after ``change`` and return the file's name."""
    frames = read(copper, ":")
    for atoms in frames:
        change(atoms)
    write(path, frames)
    return str(path)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_is_the_same_with_and_without_it(
    copper: Path, tmp_path: Path, accumulate: int
) -> None:
    outcomes = []
    for name, extra in (("with", [Preflight()]), ("without", [])):
        module = unit(RestlessBackbone, lr=0.01)
        data = AtomisticDataModule(str(copper), batch_size=3, check=False)
        table = tmp_path / name / "metrics.csv"
        engine = fit(
            module,
            data,
            tmp_path / name,
            *extra,
            MetricsLogging(every_n_steps=1),
            max_epochs=2,
            accumulate_grad_batches=accumulate,
            logger=CsvMetrics(table),
        )
        with table.open() as stream:
            losses = [row["train/loss"] for row in csv.DictReader(stream)]
        state = engine.optimizers[0].state_dict()["state"]
        numbers = torch.get_rng_state()
        outcomes.append((losses, module.state_dict(), state, module.backbone.not_saved, numbers))
    (ours, weights, moments, noise, numbers), (plain, *others) = outcomes
    assert len(ours) > 4
    assert ours == plain
    assert int(weights["potential.backbone.calls"]) > 0
    assert weights.keys() == others[0].keys()
    assert all(torch.equal(*map(torch.as_tensor, (v, others[0][k]))) for k, v in weights.items())
    for key, state in moments.items():
        assert all(torch.equal(value, others[1][key][name]) for name, value in state.items())
    assert torch.equal(noise, others[2])
    assert torch.equal(numbers, others[3])


def test_it_finds_missing_labels_and_counts_parameters(copper: Path, tmp_path: Path) -> None:
    def without_some_stress(atoms: Atoms) -> None:
        if int(atoms.info["sid"][2:]) % 3 == 0:
            del atoms.calc.results["stress"]

    path = relabelled(copper, tmp_path / "data.extxyz", without_some_stress)
    data = AtomisticDataModule(path, batch_size=3, val_fraction=0.0, check=False)
    losses = {name: {"name": "mae"} for name in ("energy", "forces", "stress")}
    found = look(data, tmp_path / "run", losses=losses)
    assert found["labels"] == [
        {
            "dataset": "default",
            "structures": 24,
            "without energy": 0,
            "without forces": 0,
            "without stress": 8,
        }
    ]
    rows = {row["part"]: row for row in found["parameters"]}
    head = sum(p.numel() for p in ToyHead(9).parameters())
    network = sum(p.numel() for p in ToyBackbone(num_channels=9).parameters())
    assert rows["heads"]["parameters"] == head
    assert rows["backbone"]["parameters"] == network
    assert rows["all"]["parameters"] == head + network
    assert rows["all"]["decay"] + rows["all"]["no_decay"] == rows["all"]["trainable"]
    assert set(found["first_batch"]["losses"]) == {"energy", "forces", "stress"}


def test_experts_and_frozen_parameters_are_counted_apart(copper: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = eSCNMDBackbone(
        sphere_channels=8, hidden_channels=8, edge_channels=8, num_layers=1, lmax=1, mmax=1,
        num_distance_basis=8, cutoff=4.0, num_experts=3, dataset_list=["default"],
    )  # fmt: skip
    experts = {n: p for n, p in backbone.named_parameters() if n.endswith(".weights")}
    assert experts
    first = next(iter(experts.values())).requires_grad_(requires_grad=False)
    data = AtomisticDataModule(str(copper), batch_size=2, check=False)
    with pytest.raises(PreflightDone):
        fit(S2EFLightningModule(backbone), data, tmp_path, Preflight(only=True))
    found = json.loads((tmp_path / "preflight.json").read_text())
    row = {row["part"]: row for row in found["parameters"]}["experts"]
    assert row["parameters"] == sum(p.numel() for p in experts.values())
    assert row["frozen"] == first.numel()
    assert row["decay"] == row["trainable"] == row["parameters"] - row["frozen"]


def test_a_loss_of_labels_that_are_all_zero(copper: Path, tmp_path: Path) -> None:
    def without_forces(atoms: Atoms) -> None:
        # Far apart, so that the prediction is zero too.
        atoms.set_cell(4.0 * atoms.cell.array, scale_atoms=True)
        atoms.calc.results["forces"] = 0.0 * atoms.calc.results["forces"]

    path = relabelled(copper, tmp_path / "data.extxyz", without_forces)
    data = AtomisticDataModule(path, batch_size=3, val_fraction=0.0, check=False)
    with pytest.raises(DataError, match=r"forces is exactly 0 over .*all labels are exactly 0.*cu"):
        look(data, tmp_path / "run")


def test_a_loss_whose_atoms_are_all_fixed(copper: Path, tmp_path: Path) -> None:
    def hold(atoms: Atoms) -> None:
        labels = atoms.calc.results
        atoms.set_constraint(FixAtoms(range(len(atoms))))
        atoms.calc = SinglePointCalculator(atoms, **labels)

    path = relabelled(copper, tmp_path / "data.extxyz", hold)
    data = AtomisticDataModule(path, batch_size=12, val_fraction=0.0, check=False)
    with pytest.raises(DataError, match=r"forces is always 0: no label .*train_on_free_atoms"):
        look(data, tmp_path / "run")


def test_a_coefficient_of_zero_is_named(copper: Path, tmp_path: Path) -> None:
    losses = {"energy": {"name": "mae"}, "forces": {"name": "mae", "coefficient": 0.0}}
    data = AtomisticDataModule(str(copper), batch_size=3, check=False)
    with pytest.raises(DataError, match=r"forces is exactly 0 .*its coefficient is 0"):
        look(data, tmp_path, losses=losses)


def test_isolated_atoms_in_the_first_batch_are_no_mistake(copper: Path, tmp_path: Path) -> None:
    atom = Atoms("Cu", cell=[20.0] * 3, pbc=True, info={"sid": "alone"})
    atom.calc = SinglePointCalculator(atom, energy=3.0, forces=[[0.0] * 3])
    path = tmp_path / "data.extxyz"
    write(path, [atom, *read(copper, ":")])
    # The order of an epoch is that of this generator.
    seed = next(s for s in range(200) if np.random.default_rng([s, 0]).permutation(25)[0] == 0)
    data = AtomisticDataModule(str(path), batch_size=1, val_fraction=0.0, seed=seed, check=False)
    found = look(data, tmp_path / "run")
    assert found["first_batch"]["structures"] == ["alone"]
    assert found["first_batch"]["losses"]["forces"] == 0.0


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("energy", r"energy of structure 'cu\d+' of dataset 'default' is [\d.e+]+ eV/atom after"),
        ("forces", r"forces of structure 'cu\d+' .* eV/angstrom\. Expected an error below 1000"),
    ],
)
def test_an_absurd_label(copper: Path, tmp_path: Path, label: str, words: str) -> None:
    def spoil(atoms: Atoms) -> None:
        # Not by one factor: element references would take that up.
        sign = 1.0 if int(atoms.info["sid"][2:]) % 4 < 2 else -1.0
        atoms.calc.results[label] = sign * 1e6 * atoms.calc.results[label]

    path = relabelled(copper, tmp_path / "data.extxyz", spoil)
    data = AtomisticDataModule(path, batch_size=12, check=False)
    with pytest.raises(DataError, match=words):
        look(data, tmp_path / "run")


def test_an_absurd_prediction_and_a_higher_limit(
    copper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ToyHead.forward
    monkeypatch.setattr(
        ToyHead,
        "forward",
        lambda self, *args: {"energies": 1e4 + original(self, *args)["energies"]},
    )
    data = AtomisticDataModule(str(copper), batch_size=3, check=False)
    with pytest.raises(DataError, match=r"is predicted as .*e\+0. eV/atom .*max_energy_error"):
        look(data, tmp_path)
    with pytest.raises(PreflightDone):
        fit(unit(), data, tmp_path, Preflight(only=True, max_energy_error=float("inf")))


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_stops(
    copper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    original = ToyHead.forward

    def broken(self: ToyHead, features: Any, data: Any) -> dict[str, torch.Tensor]:
        energies = original(self, features, data)["energies"]
        if where == "loss":
            return {"energies": energies + torch.where(data.batch == 1, torch.nan, 0.0)}
        return {"energies": energies + (0.0 * self.linear.weight.sum()).sqrt()}

    monkeypatch.setattr(ToyHead, "forward", broken)
    data = AtomisticDataModule(str(copper), batch_size=3, check=False)
    with pytest.raises(NonFiniteError) as caught:
        look(data, tmp_path)
    saved = [atoms.info["sid"] for atoms in read(tmp_path / "non_finite_batch.extxyz", ":")]
    named = saved[1:2] if where == "loss" else saved
    assert all(repr(name) in str(caught.value) for name in named)


def test_memory_is_predicted(copper: Path, tmp_path: Path) -> None:
    """What a small batch needs foretells what one eight times as large needs."""
    torch.manual_seed(0)
    backbone = eSCNMDBackbone(
        sphere_channels=32, hidden_channels=32, edge_channels=32, num_layers=2, cutoff=5.0
    )
    module = S2EFLightningModule(backbone)
    data = AtomisticDataModule(str(copper), batch_size=2, val_fraction=0.0, check=False)
    with pytest.raises(PreflightDone):
        fit(module, data, tmp_path, Preflight(only=True))
    small, large = (collate(data.graphs("train")[:n]) for n in (2, 16))

    def step(batch: AtomicData) -> None:
        sums, _ = module.compute(batch)
        loss = torch.stack([part.value for part in sums.values()]).sum()
        torch.autograd.grad(loss, list(module.potential.parameters()))

    few, many = (
        measure(lambda batch=batch: step(batch), module.device) for batch in (small, large)
    )
    foreseen = forecast(
        few,
        load=small.edges.num_edges,
        loads=np.array([large.edges.num_edges, small.edges.num_edges]),
        steps=10,
        batches_per_step=1,
        module=module.potential,
        device=module.device,
    )
    assert foreseen.largest_batch == pytest.approx(8.0, rel=0.5)
    trained = sum(p.numel() * 4 for p in module.potential.parameters())
    rise = foreseen.peak_bytes - few.before - 2 * trained
    assert rise == pytest.approx(many.rise, rel=0.35)
    ratio = 1.0 + foreseen.largest_batch
    assert foreseen.epoch_seconds == pytest.approx(few.seconds * ratio)
    assert foreseen.run_seconds == pytest.approx(few.seconds * ratio / 2 * 10)


def test_command_line_stops_after_it_and_then_runs(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["s2ef", "fit", "--config", str(config()), "--run_dir", str(tmp_path / "run")]
    assert adatom([*options, "--preflight"]) == 0
    printed = capsys.readouterr()
    assert "Forecast" in printed.out
    assert "nothing that would stop the run" in printed.err
    kept = {path.name for path in (tmp_path / "run").iterdir()}
    assert "preflight.json" in kept
    assert not kept & {"result.json", "checkpoints", "metrics.csv", "best.safetensors"}
    assert adatom(options) == 0
    assert "Preflight: " in capsys.readouterr().err
    assert (tmp_path / "run" / "result.json").exists()


def test_command_line_names_what_is_absurd(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = {"preflight": "{max_energy_error: 1.0e-6}"}
    options = ["s2ef", "fit", "--config", str(config(**extra)), "--run_dir", str(tmp_path / "run")]
    assert adatom(options) == 2
    assert "max_energy_error" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_limits_that_nothing_passes() -> None:
    with pytest.raises(AdatomError, match="above 0"):
        Preflight(max_force_error=0.0)


def absurd_structure(folder: Path, world: int) -> Any:
    """Two structures, of which one is absurd: with two processes only one of them sees it."""
    data = AtomisticDataModule(
        str(folder / "data.extxyz"), batch_size=2 // world, val_fraction=0.0, check=False
    )
    more = {"callbacks": [Preflight(max_force_error=50.0)], "max_epochs": 1}
    return unit(), data, more


@pytest.mark.slow
def test_all_processes_stop_if_one_finds_a_mistake(copper: Path, tmp_path: Path) -> None:
    def spoil(atoms: Atoms) -> None:
        if atoms.info["sid"] == "cu1":
            # Not so much that the shared scale makes predictions absurd as well.
            atoms.calc.results["forces"] = 100.0 + 0.0 * atoms.calc.results["forces"]

    relabelled(copper, tmp_path / "all.extxyz", spoil)
    write(tmp_path / "data.extxyz", read(tmp_path / "all.extxyz", ":2"))
    told = together([absurd_structure], tmp_path, TrainStrategy.DDP)["absurd_structure"]
    errors = sorted(rank["error"] for rank in told)
    assert "stopped in another process" in errors[0]
    assert "'cu1'" in errors[1]
