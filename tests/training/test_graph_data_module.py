"""The data modules of the Open Catalyst way."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from adatom.core.errors import FileAccessError
from adatom.training.data_module import AtomisticDataModule
from adatom.training.data_source import DataSource
from adatom.training.graph_data_module import DGLDataModule, GraphDataModule, PyGDataModule


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
    sources = [DataSource(path=str(copper), dataset="one", index="::2"), str(copper)]
    data = GraphDataModule(sources, dataset="other", val_fraction=0.0)
    data.setup("fit")
    assert [data.facts[name].count for name in ("one", "other")] == [12, 24]


def test_a_missing_path_is_one_sentence() -> None:
    for kind in (GraphDataModule, PyGDataModule, DGLDataModule):
        with pytest.raises(FileAccessError, match=r"'data/s2ef/200k/train'"):
            kind("data/s2ef/200k/train").setup("fit")
