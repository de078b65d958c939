"""Data that are not kept in memory train as data that are: with an index, with processes."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from adatom.cli.main import main
from adatom.core.errors import DataError
from adatom.data.atomic_data import AtomicData
from adatom.data.open_dataset import open_dataset
from adatom.training import examination, index, lazy_systems
from adatom.training.batch_loader import BatchLoader
from adatom.training.batching import BatchLimits, BatchPlan, StructureSizes
from adatom.training.columns import columns_of, examples_of, join
from adatom.training.data_module import AtomisticDataModule
from adatom.training.lazy_systems import LazySystems
from adatom.training.mixture import Mixture
from adatom.training.module import S2EFLightningModule
from adatom.training.new_potential import new_potential
from adatom.training.quiet import quiet_lightning
from adatom.training.sources import DataSource
from adatom.training.tasks_from_data import build_tasks
from adatom.training.train_unit import DEFAULT_LOSSES
from toy_backbone import ToyBackbone, ToyHead


@pytest.fixture(scope="session")
def database(copper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "copper.aselmdb"
    assert main(["data", "convert", str(copper), str(path)]) == 0
    return path


def two_sources(database: Path) -> list[str | DataSource]:
    return [
        DataSource(path=str(database), dataset="all"),
        DataSource(path=str(database), dataset="some", index="::3"),
    ]


def weights(data: AtomisticDataModule, folder: Path) -> list[torch.Tensor]:
    torch.manual_seed(0)
    module = S2EFLightningModule(ToyBackbone(num_channels=9), ToyHead(9, 1.0), lr=0.01)
    with quiet_lightning():
        engine = Trainer(
            max_epochs=2,
            inference_mode=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=folder,
        )
        engine.fit(module, datamodule=data)
    loss = engine.callback_metrics["val/loss"].reshape(1)
    return [*(p.detach() for p in module.potential.parameters()), loss]


def assert_equal(one: list[torch.Tensor], two: list[torch.Tensor]) -> None:
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a, b)


def test_trainings_are_bitwise_equal(database: Path, tmp_path: Path) -> None:
    def train(**options: Any) -> list[torch.Tensor]:
        mixture = Mixture(sampling="balanced")
        limits = {"max_edges": 1500, "val_fraction": 0.25, "mixture": mixture}
        return weights(AtomisticDataModule(two_sources(database), **limits, **options), tmp_path)

    kept = train(in_memory=True)
    assert_equal(train(in_memory=False), kept)
    assert_equal(train(in_memory=False, num_workers=2), kept)


def test_facts_and_splits_are_the_same(database: Path) -> None:
    modules = [
        AtomisticDataModule(two_sources(database), in_memory=in_memory, val_fraction=0.3)
        for in_memory in (True, False)
    ]
    for module in modules:
        module.setup("fit")
    kept, read = modules
    assert isinstance(read.systems("train"), LazySystems)
    assert kept.fingerprints == read.fingerprints
    assert [s.sid for s in kept.systems("val")] == [s.sid for s in read.systems("val")]
    for name, fact in kept.facts.items():
        other = read.facts[name]
        assert fact.scale == other.scale
        assert (fact.domain, fact.labelled, fact.count) == (
            other.domain,
            other.labelled,
            other.count,
        )
        assert fact.references is not None
        assert other.references is not None
        assert torch.equal(fact.references, other.references)


def test_the_index_is_made_once(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.aselmdb"
    copy.write_bytes(database.read_bytes())

    def setup() -> AtomisticDataModule:
        module = AtomisticDataModule(two_sources(copy), in_memory=False, check=False)
        module.index_folder = tmp_path / "index"
        module.setup("fit")
        return module

    first = setup()
    files = sorted(path.name for path in (tmp_path / "index").glob("*.npz"))
    assert len(files) == 2

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a structure was read")

    monkeypatch.setattr(index, "map_rows", refuse)
    assert setup().fingerprints == first.fingerprints
    copy.rename(tmp_path / "other.aselmdb")
    shutil.copy(tmp_path / "other.aselmdb", copy)
    with pytest.raises(AssertionError, match="was read"):
        setup()


def test_large_data_are_noticed(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def is_lazy() -> bool:
        module = AtomisticDataModule(str(database), check=False)
        module.setup("fit")
        return isinstance(module.systems("train"), LazySystems)

    assert not is_lazy()
    monkeypatch.setattr(lazy_systems, "_BYTES_PER_ATOM", 10**10)
    assert is_lazy()
    assert "too large for the memory" in capsys.readouterr().err
    monkeypatch.setattr(examination, "_EXAMINED", 5)
    AtomisticDataModule(str(database)).setup("fit")
    assert "5 at random are examined" in capsys.readouterr().err


@pytest.fixture
def loader(database: Path) -> BatchLoader:
    graphs = LazySystems([open_dataset(database)], cutoff=5.0)
    sizes = StructureSizes(columns_of(graphs).atoms, None, str)
    plan = BatchPlan(sizes, BatchLimits(atoms=30), seed=0)
    return BatchLoader(graphs, plan, workers=2)


def test_batches_of_processes(loader: BatchLoader, database: Path) -> None:
    expected = BatchLoader(loader._systems, loader._plan)
    for _ in range(2):
        for ours, other in zip(loader, expected, strict=True):
            assert not ours.pos.is_shared()  # which would fill /dev/shm
            assert_same_batch(ours, other)
    loader.set_sampler_state(1, 3)
    expected.set_sampler_state(1, 3)
    assert [b.sid for b in loader] == [b.sid for b in expected]
    # A pass that ends early does not disturb the next one.
    assert next(iter(loader)).sid == next(iter(expected)).sid
    assert [b.sid for b in loader] == [b.sid for b in expected]


def assert_same_batch(one: AtomicData, two: AtomicData) -> None:
    for name in ("pos", "cell", "natoms", "batch", "charge", "tags", "fixed"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    for name, value in two.labels.items():
        assert torch.equal(one.labels[name], value)
    assert one.edges is not None
    assert two.edges is not None
    for name in ("index", "offsets", "counts"):
        assert torch.equal(getattr(one.edges, name), getattr(two.edges, name))
        assert getattr(one.edges, name).dtype == torch.int64
    one.pos.add_(1.0)  # numbers from a pipe can be written to


def test_a_damaged_structure_stops_with_its_name(tmp_path: Path, database: Path) -> None:
    path = tmp_path / "bad.aselmdb"
    path.write_bytes(database.read_bytes())
    with lmdb.open(str(path), subdir=False, lock=False) as file, file.begin(write=True) as change:
        change.put(b"21", b"nonsense")
    graphs = LazySystems([open_dataset(path)], cutoff=5.0)
    plan = BatchPlan(StructureSizes(np.ones(24, int), None, str), BatchLimits(systems=4), None)
    with pytest.raises(DataError, match=r"Row 21 of .*bad\.aselmdb.* is damaged"):
        list(BatchLoader(graphs, plan, workers=1))
    module = AtomisticDataModule(str(path), in_memory=False)
    with pytest.raises(DataError, match="Row 21"):
        module.setup("fit")


def test_datasets_can_be_sent_to_processes(database: Path, copper: Path) -> None:
    graphs = LazySystems([open_dataset(database), open_dataset(copper)], cutoff=4.0)
    again = pickle.loads(pickle.dumps(graphs))
    assert len(again) == 48
    for row in (0, 23, 24, -1):
        assert torch.equal(again[row].pos, graphs[row].pos)
    few = graphs.take(np.array([25, 3]))
    assert [s.sid[0] for s in few] == ["cu1", "cu3"]


def test_columns_are_joined(database: Path) -> None:
    systems = list(open_dataset(database))
    for system in systems[::4]:
        del system.labels["stress"]
    systems[3].charge[0] = 1
    systems[5].atomic_numbers[0] = 47
    whole = columns_of(systems)
    parts = join([columns_of(systems[:7]), columns_of(systems[7:])])
    for name in ("energy", "force_square", "force_count", "charge", "spin", "atoms"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    for label in ("energy", "stress", "nothing"):
        np.testing.assert_array_equal(parts.has(label), whole.has(label))
    compositions = [columns.compositions[columns.composition] for columns in (parts, whole)]
    np.testing.assert_array_equal(*compositions)
    assert {3, 5} <= set(examples_of(whole))
    assert len(examples_of(whole)) <= 5


def test_inputs_are_checked_with_a_few_structures(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = AtomisticDataModule(two_sources(database), in_memory=False, check=False)
    data.setup("fit")
    read: list[int] = []
    original = LazySystems.__getitem__

    def counted(self: LazySystems, index: int) -> Any:
        read.append(index)
        return original(self, index)

    monkeypatch.setattr(LazySystems, "__getitem__", counted)
    tasks = build_tasks(data.facts, DEFAULT_LOSSES)
    new_potential(ToyBackbone(num_channels=9), ToyHead(9, 1.0), tasks, data)
    # One for each dataset of both parts: copper is all there is.
    assert 2 <= len(read) <= 4
