"""The page of a training says what the run directory says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from adatom.report.training_page import error_table, write_training_page

BEST = {
    "epoch": 3,
    "step": 40,
    "val/loss": 0.5,
    "val/oc20_energy_loss": 0.25,
    "val/oc20/energy_per_atom_mae": 0.012,
    "val/oc20/forces_mae": 0.05,
    "val/omol/energy_per_atom_mae": 0.003,
    "val/omol/forces_cosine_similarity": 0.9,
    "val/omol/energy_per_atom_mse": 0.04,
}
RUN = {
    "name": "a <run>",
    "result": {
        "reason": "all epochs done",
        "epochs": 4,
        "steps": 40,
        "seconds_of_last_session": 90.0,
        "best": BEST,
    },
    "versions": {"torch": "2.13"},
    "data": {
        "train": [{"sha256": "ab" * 32, "files": [{"name": "x.xyz"}], "count": 9}],
        "val": [{"split_from": "train", "indices": list(range(400))}],
        "count": {"train": 8, "val": 1},
    },
    "preflight": {
        "parameters": [{"part": "all", "parameters": 7}],
        "labels": [{"dataset": "oc20", "structures": 8, "without stress": 3}],
        "forecast": {"step_seconds": 0.5, "peak_bytes": 2_000_000_000, "largest_batch": 1.5},
    },
}


def cells(text: str) -> list[str]:
    return re.findall(r"<t[dh]>([^<]*)</t[dh]>", text)


def test_errors_by_dataset_are_in_milli_units() -> None:
    columns, rows = error_table({k: v for k, v in BEST.items() if k.startswith("val/")})
    assert columns == [
        "dataset",
        "energy per atom MAE (meV/atom)",
        "forces MAE (meV/Å)",
        "forces cosine similarity",
        "energy per atom mse",
    ]
    assert rows[0][:4] == ["oc20", pytest.approx(12.0), pytest.approx(50.0), None]
    assert rows[1] == ["omol", pytest.approx(3.0), None, 0.9, 0.04]


def test_page_holds_everything_and_asks_for_nothing(tmp_path: Path) -> None:
    step = np.arange(1.0, 5.0)
    names = [
        "train/loss", "val/loss", "train/oc20_energy_loss", "train/lr", "train/atoms_per_second",
        "val/oc20/forces_mae", "val/omol/forces_mae",
    ]  # fmt: skip
    path = tmp_path / "report.html"
    curves = dict.fromkeys(names, (step, step))
    write_training_page(path, RUN, curves, config="model:\n  lr: <1>\n", footer="small print")
    text = path.read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert "Training of a &lt;run&gt;" in text
    assert "lr: &lt;1&gt;" in text
    # Losses and their terms; one figure for both datasets' force errors; rate and speed.
    assert text.count("<img") == 5
    found = cells(text)
    assert {"oc20", "omol", "12", "50", "x.xyz", "without stress", "2.13", "400 entries"} <= {
        *found
    }
    assert "2 GB" in found
    assert "0.5 s" in found
    assert "worst of 2 datasets" in text
    assert "Structures: 8 training, 1 validation." in text


def test_page_of_a_run_that_has_hardly_begun(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_training_page(path, {"name": "x"}, {})
    assert "not finished" in path.read_text(encoding="utf-8")
