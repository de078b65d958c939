"""Runs on data that are not kept in memory, stopped and continued, alone and in two processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from test_kill_processes import TWO, assert_same, rows, start, wait_for_rows, wait_for_the_end
from test_resume import KillAt, kill, run

from adatom.cli.main import main
from adatom.training import index

#: Read from the database when needed.
LAZY = {"data.in_memory": "false", "data.check": "false"}

Config = Callable[..., Path]


@pytest.fixture(scope="module")
def database(copper: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("database") / "copper.aselmdb"
    assert main(["data", "convert", str(copper), str(path)]) == 0
    return str(path)


def test_a_resumed_run_reads_what_it_had_not_read(
    config: Config, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = config(**LAZY, **{"data.train": database})
    run(lazy, tmp_path / "whole")
    folder = tmp_path / "killed"
    kill(lazy, folder, KillAt(9, "on_train_batch_end"), monkeypatch)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the index was made again")

    monkeypatch.setattr(index, "map_rows", refuse)
    run(lazy, folder)
    assert_same(folder, tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_with_workers_are_killed(
    config: Config, database: str, tmp_path: Path
) -> None:
    options = TWO | LAZY | {"data.train": database, "data.num_workers": "1"}
    options["data.max_edges"] = "2000"  # counted once, beside the index
    lazy = config(**options)
    whole = tmp_path / "whole"
    process = start(lazy, whole)
    wait_for_rows(process, whole, 45)
    assert "Traceback" not in wait_for_the_end(process)
    assert process.returncode == 0
    folder = tmp_path / "killed"
    for count in (7, 24):
        process = start(lazy, folder)
        wait_for_rows(process, folder, count)
        os.killpg(process.pid, signal.SIGKILL)
        wait_for_the_end(process)
        assert process.returncode == -signal.SIGKILL
    process = start(lazy, folder)
    wait_for_rows(process, folder, 45)
    wait_for_the_end(process)
    assert process.returncode == 0
    assert len(rows(folder)) == len(rows(whole))
    assert_same(folder, whole)
