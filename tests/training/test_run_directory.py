"""A run directory explains the run without an account anywhere; W&B can be added."""

from __future__ import annotations

import csv
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adatom.cli.main import main as adatom

Config = Callable[..., Path]


class FakeWandb(types.ModuleType):
    """What is used of wandb; remembers the calls."""

    def __init__(self, refusal: str | None = None) -> None:
        super().__init__("wandb")
        self.errors = types.SimpleNamespace(Error=RuntimeError)
        self.Settings = lambda **options: options
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[dict[str, float], int]] = []
        self.exit_codes: list[int] = []
        self.refusal = refusal

    def init(self, **options: Any) -> FakeWandb:
        if self.refusal:
            raise RuntimeError(self.refusal)
        self.begun.append(options)
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((values, step))

    def finish(self, exit_code: int) -> None:
        self.exit_codes.append(exit_code)


def fit(config: Config, folder: Path, *options: str, **extra: str) -> int:
    return adatom(
        ["s2ef", "fit", "--config", str(config(**extra)), "--run_dir", str(folder), *options]
    )


def test_the_directory_explains_the_run(config: Config, copper: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    sources = f"[{{path: {copper}, dataset: a}}, {{path: {copper}, dataset: b, index: '::2'}}]"
    assert (
        fit(config, folder, "--report", "true", **{"data.check": "false", "data.train": sources})
        == 0
    )
    kept = {path.name for path in folder.iterdir()}
    assert kept >= {
        "config.yaml", "versions.json", "data.json", "preflight.json", "metrics.csv", "result.json",
        "tensorboard", "checkpoints", "best.safetensors", "report.html", "parameters.txt",
    }  # fmt: skip
    best = json.loads((folder / "result.json").read_text())["best"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    for dataset in ("a", "b"):
        error = 1000.0 * best[f"val/{dataset}/forces_mae"]
        assert f"<td>{dataset}</td>" in page
        assert f"<td>{error:.4g}</td>" in page
    assert json.loads((folder / "data.json").read_text())["train"][0]["sha256"] in page
    assert "batch_size: 3" in page


def test_no_report_where_none_is_wanted(config: Config, tmp_path: Path) -> None:
    assert fit(config, tmp_path / "run", "--report", "false") == 0
    assert not (tmp_path / "run" / "report.html").exists()


def test_wandb_that_is_not_installed(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert fit(config, tmp_path / "run", "--wandb.project", "x") == 2
    complaint = capsys.readouterr().err
    assert "pip install 'adatom[wandb]'" in complaint
    assert "Traceback" not in complaint
    assert fit(config, tmp_path / "run") == 0


def test_wandb_offline_gets_every_row(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    folder = tmp_path / "run"
    extra = {"wandb": "{project: cu, mode: offline}"}
    assert fit(config, folder, "--preflight", **extra) == 0
    assert fake.begun == []
    assert fit(config, folder, **extra) == 0
    begun = fake.begun[0]
    assert (begun["project"], begun["mode"], begun["name"]) == ("cu", "offline", "run")
    assert begun["dir"] == str(folder)
    assert begun["id"] == (folder / "wandb_id.txt").read_text().strip()
    assert begun["config"]["model"]["lr"] == 0.01
    assert fake.exit_codes == [0]
    with (folder / "metrics.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["train/loss"]]
    sent = {step: values for values, step in fake.logged if "train/loss" in values}
    assert len(rows) == len(sent) == 18
    assert all(float(row["train/loss"]) == sent[int(row["step"])]["train/loss"] for row in rows)


def test_wandb_continues_the_same_run(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adatom.training.wandb_logger import WandbMetrics, WandbSettings

    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for _ in range(2):
        WandbMetrics(WandbSettings(mode="offline"), tmp_path, {}).log_metrics({"a": 1.0}, step=1)
    first, second = (options["id"] for options in fake.begun)
    assert first == second
    assert fake.begun[0]["resume"] == "allow"


def test_wandb_without_an_account_is_one_sentence_before_the_training(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb("api_key not configured\nmore"))
    assert fit(config, tmp_path / "run", "--wandb.project", "x") == 2
    complaint = capsys.readouterr().err
    assert "cannot be started: api_key not configured. Run 'wandb login'" in complaint
    assert not (tmp_path / "run" / "metrics.csv").exists()
