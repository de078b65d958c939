"""The data modules of the Open Catalyst way."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer

from adatom.core.errors import ConfigError, FileAccessError, MissingExtraError
from adatom.data.frameworks.import_dgl import import_dgl
from adatom.training.data_module import AtomisticDataModule
from adatom.training.data_source import DataSource
from adatom.training.graph_data_module import DGLDataModule, GraphDataModule, PyGDataModule
from adatom.training.module import S2EFLightningModule
from adatom.training.quiet import quiet_lightning
from toy_backbone import ToyBackbone, ToyHead


@pytest.mark.parametrize(
    ("name", "framework"),
    [("GraphDataModule", "native"), ("PyGDataModule", "pyg"), ("DGLDataModule", "dgl")],
)
def test_a_configuration_builds_it(copper: Path, name: str, framework: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=AtomisticDataModule)
    value = {
        "class_path": f"adatom.training.graph_data_module.{name}",
        "init_args": {
            "train_path": str(copper),
            "val_path": {"path": str(copper), "index": ":3"},
            "batch_size": 5,
            "num_workers": 0,
            "balance": "atoms",
            "dataset": "emt",
            "seed": 3,
        },
    }
    data = parser.instantiate(parser.parse_object({"data": value})).data
    assert type(data).__name__ == name
    assert data.framework == framework
    assert (data.limits.systems, data.seed) == (5, 3)
    data.setup("fit")
    assert {s.dataset[0] for s in data.systems("train")} == {"emt"}
    assert len(data.systems("train")) == 24
    assert len(data.systems("val")) == 3
    assert sorted(data.facts) == ["emt"]


def test_sources_keep_what_they_say(copper: Path) -> None:
    sources: list[str | DataSource] = [
        DataSource(path=str(copper), dataset="one", index="::2"),
        str(copper),
    ]
    data = GraphDataModule(sources, dataset="other", val_fraction=0.0)
    data.setup("fit")
    assert [data.facts[name].count for name in ("one", "other")] == [12, 24]


def test_a_missing_path_is_one_sentence() -> None:
    for kind in (GraphDataModule, PyGDataModule, DGLDataModule):
        with pytest.raises(FileAccessError, match=r"'data/s2ef/200k/train'"):
            kind("data/s2ef/200k/train").setup("fit")


def test_own_loops_get_every_structure_once(copper: Path) -> None:
    data = GraphDataModule(str(copper), val_fraction=0.25, batch_size=5, check=False)
    data.setup("fit")
    with pytest.raises(ConfigError, match=r"no cutoff.*cutoff=6.0"):
        data.graph_dataloader("train")
    with pytest.raises(ConfigError, match="test structures were not read"):
        data.graph_dataloader("test", cutoff=4.0)
    loader = data.graph_dataloader("train", cutoff=4.0, max_neighbors=10)
    epochs = [[sid for batch in loader for sid in batch.sid] for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(s.sid[0] for s in data.systems("train"))
    assert epochs[0] != epochs[1]
    val = [sid for batch in data.graph_dataloader("val", cutoff=4.0) for sid in batch.sid]
    assert val == [s.sid[0] for s in data.systems("val")]
    lazy = GraphDataModule(str(copper), val_fraction=0.25, batch_size=5, in_memory=False)
    lazy.setup("fit")
    again = lazy.graph_dataloader("train", cutoff=4.0, max_neighbors=10)
    assert [sid for batch in again for sid in batch.sid] == epochs[0]


@pytest.mark.parametrize(
    ("kind", "package"), [(PyGDataModule, "torch_geometric"), (DGLDataModule, "dgl")]
)
def test_without_the_framework_only_its_graphs_are_missing(
    copper: Path,
    kind: type[GraphDataModule],
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Its parts too: what an earlier test imported would be found without the package.
    parts = [name for name in sys.modules if name.startswith(f"{package}.")]
    for name in (package, *parts):
        monkeypatch.setitem(sys.modules, name, None)
    data = kind(str(copper), batch_size=6, check=False)
    module = S2EFLightningModule(ToyBackbone(num_channels=9), ToyHead(9, 1.0), lr=0.01)
    with quiet_lightning():
        engine = Trainer(
            max_steps=1,
            inference_mode=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=tmp_path,
        )
        engine.fit(module, datamodule=data)
    assert engine.global_step == 1
    with pytest.raises(MissingExtraError, match=f"adatom\\[{data.framework}\\]"):
        next(iter(data.graph_dataloader("train")))


@pytest.mark.parametrize(
    ("kind", "package"), [(PyGDataModule, "torch_geometric"), (DGLDataModule, "dgl")]
)
def test_graphs_of_the_framework(copper: Path, kind: type[GraphDataModule], package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    if package == "dgl":
        import_dgl(without_graphbolt=True)
    data = kind(test_path=str(copper), batch_size=24)
    data.setup("test")
    (graph,) = data.graph_dataloader("test", cutoff=4.0)
    fields = graph if data.framework == "pyg" else graph.ndata
    pos = torch.cat([system.pos for system in data.systems("test")])
    assert torch.equal(fields["pos"], pos)
    labels = torch.cat([system.labels["forces"] for system in data.systems("test")])
    assert torch.equal(fields["force"], labels)
