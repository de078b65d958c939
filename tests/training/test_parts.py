"""The parts of a training, one by one: groups, schedule, average, batches, logs, directory."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from ase import Atoms
from torch import nn

from adatom.core.errors import ConfigError, DataError
from adatom.data.atomic_data import AtomicData
from adatom.training.columns import columns_of
from adatom.training.ema import WeightAverage, ema_decay
from adatom.training.loggers import CsvMetrics
from adatom.training.optimizer import adamw, parameter_groups
from adatom.training.run_directory import differences
from adatom.training.schedule import CosineWithWarmup, cosine_with_warmup
from adatom.training.sources import force_rms, split_off


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 3)
        self.linear = nn.Linear(3, 2)
        self.norm = nn.LayerNorm(2)
        self.tensor = nn.Parameter(torch.zeros(2, 2))
        self.scale = nn.Parameter(torch.ones(()))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)


def test_groups_are_listed() -> None:
    groups = parameter_groups(Network())
    assert groups.decay == ("tensor", "linear.weight")
    assert set(groups.no_decay) == {
        "scale",
        "embedding.weight",
        "linear.bias",
        "norm.weight",
        "norm.bias",
    }
    assert "linear.weight" in groups.describe()


def test_only_the_first_group_decays() -> None:
    optimizer = adamw(Network(), lr=0.1, weight_decay=0.5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    with pytest.raises(ConfigError, match="lr is 0"):
        adamw(Network(), lr=0.0, weight_decay=0.0)


def test_schedule_has_no_jump() -> None:
    factors = [
        cosine_with_warmup(s, total=100, warmup=10, warmup_factor=0.2, min_factor=0.01)
        for s in range(121)
    ]
    assert factors[0] == pytest.approx(0.2)
    assert factors[5] == pytest.approx(0.6)
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.505)
    assert factors[100] == factors[120] == pytest.approx(0.01)
    steps = [abs(b - a) for a, b in pairwise(factors)]
    assert max(steps[10:]) < 0.02


def test_scheduler_sets_the_rate_of_every_group() -> None:
    optimizer = adamw(Network(), lr=2.0, weight_decay=0.1)
    CosineWithWarmup(optimizer, total=10, warmup=5, warmup_factor=0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 1.0]


def test_average_follows_and_is_stored() -> None:
    linear = nn.Linear(1, 1, bias=False)
    nn.init.constant_(linear.weight, 0.0)
    average = WeightAverage(linear, decay=0.5)
    nn.init.constant_(linear.weight, 1.0)
    average.update(linear)  # decay 1/10
    assert float(average.module.weight) == pytest.approx(0.9)
    average.update(linear)  # decay 2/11
    assert float(average.module.weight) == pytest.approx(1 - 0.1 * 2 / 11)
    assert not average.module.weight.requires_grad
    copy = WeightAverage(linear, decay=0.5)
    copy.load_state_dict(average.state_dict())
    assert copy.updates == 2
    assert [ema_decay(n, 0.999) for n in (0, 10**6)] == [0.1, 0.999]


def chain(length: int, sid: str) -> AtomicData:
    positions = [[1.0 * i, 0.0, 0.0] for i in range(length)]
    return AtomicData.from_ase(Atoms("H" * length, positions), sid=sid).with_edges(1.1)


SYSTEMS = [chain(1 + i % 5, f"chain{i}") for i in range(23)]
COLUMNS = columns_of(SYSTEMS)


def test_split_is_seeded_and_leaves_something() -> None:
    rows = split_off(COLUMNS, 0.2, seed=0)
    assert len(rows) == 5
    assert rows == split_off(COLUMNS, 0.2, seed=0) != split_off(COLUMNS, 0.2, seed=1)
    assert split_off(COLUMNS, 0.0, seed=0) == []
    with pytest.raises(DataError, match="leaves nothing"):
        split_off(columns_of(SYSTEMS[:1]), 0.5, seed=0)


def test_split_keeps_repetitions_together() -> None:
    systems = [chain(2 + 2 * (i % 2), f"s{i}") for i in range(40)]
    for i, system in enumerate(systems):
        system.labels["energy"] = torch.tensor([system.num_atoms * 0.1 * (i // 4)])
    rows = set(split_off(columns_of(systems), 0.3, seed=0))
    assert len(rows) == 12
    assert {i // 4 for i in rows} == {i // 4 for i in rows if i % 4 == 0}


def test_force_rms_is_per_component_of_free_atoms() -> None:
    system = chain(2, "two")
    system.labels["forces"] = torch.tensor([[3.0, 0.0, 0.0], [100.0, 0.0, 0.0]])
    system.fixed = torch.tensor([False, True])
    assert force_rms(columns_of([system])) == pytest.approx(3.0**0.5)
    assert force_rms(columns_of([chain(1, "unlabelled")])) is None


def cells(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def test_csv_keeps_the_first_rows_and_grows_columns(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = CsvMetrics(path)
    log.log_metrics({"a": 1.0}, step=1)
    log.log_metrics({"b": 0.1 + 0.2}, step=2)
    log.log_metrics({"a": 3.0}, step=3)
    rows = cells(path)
    assert rows == [
        ["step", "a", "b"],
        ["1", "1.0", ""],
        ["2", "", repr(0.1 + 0.2)],
        ["3", "3.0", ""],
    ]
    again = CsvMetrics(path)
    again.keep(2)
    again.log_metrics({"a": 4.0}, step=3)
    assert cells(path) == [*rows[:3], ["3", "4.0", ""]]
    with pytest.raises(DataError, match="has 3 rows"):
        CsvMetrics(path).keep(9)


def test_differences_have_dotted_names() -> None:
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5}
    assert list(differences(old, new)) == [("a.c", 2, 4), ("d", 3, None), ("e", None, 5)]
