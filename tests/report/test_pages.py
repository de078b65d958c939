"""Pages are whole, self-contained and true to the numbers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from adatom.core.errors import FileAccessError
from adatom.report.dynamics_page import (
    conservation_section,
    relaxation_section,
    temperature_section,
)
from adatom.report.evaluation_page import write_evaluation_page
from adatom.report.learning_curves import read_learning_curves
from adatom.report.page import Page

SUMMARY = {"count": 9, "mae": 0.001, "rmse": 0.002, "largest": 0.01, "reference_rms": 0.5}
ERRORS = {
    "energy_per_atom": SUMMARY,
    "forces": SUMMARY,
    "force_vectors": SUMMARY,
    "force_cosine": 0.99,
    "stress": None,
}
RESULTS = {
    "model": "m <1>",
    "data": "d",
    "num_structures": 3,
    "num_atoms": 9,
    "overall": ERRORS,
    "baseline_rmse": 0.2,
    "by_element": {"Si": ERRORS},
    "by_group": {"AIMD": ERRORS},
    "worst": [{"sid": "s1", "force_rmse": 0.5}],
}


def external_references(text: str) -> list[str]:
    """Return everything that a browser would fetch."""
    return [
        uri
        for uri in re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', text)
        if not any(part.startswith("data:") for part in uri)
    ]


def test_evaluation_page_is_self_contained(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = {
        "energy": rng.normal(size=(3, 2)),
        "forces": rng.normal(size=(9, 2, 3)),
        "stress": np.zeros((0, 2, 9)),
    }
    step = np.arange(5.0)
    target = tmp_path / "report.html"
    write_evaluation_page(
        target,
        RESULTS,
        pairs,
        energy_groups=["AIMD", "AIMD", "Surface"],
        curves={"train/loss": (step, step + 1), "val/loss": (step, step + 2)},
    )
    text = target.read_text(encoding="utf-8")
    assert external_references(text) == []
    assert "m &lt;1&gt; on d" in text
    assert "m <1>" not in text
    assert text.count("<img") == 5
    assert re.search(r'<div class="value">2 <small>meV/atom', text)
    assert re.search(r'<div class="value">100 <small>times', text)


def test_dynamics_sections_draw_what_they_are_given() -> None:
    page = Page("demo")
    time = np.linspace(0.0, 1.0, 20)
    relaxation_section(page, "Relax", "x", energy=-time, largest_force=np.exp(-time), fmax=0.05)
    temperature_section(
        page, "NVT", "x", time=time, temperature=300 + time, target=300.0,
        distribution={"Si-Si": (time, time)},
    )  # fmt: skip
    conservation_section(
        page, "NVE", "x", time=time,
        energies={"total": 0 * time, "potential": time, "kinetic": -time}, num_atoms=8,
    )  # fmt: skip
    text = page.to_html("small print")
    assert text.count("<img") == 6
    assert "Energy falls by 1.000 eV" in text
    assert external_references(text) == []


def test_unwritable_page_is_refused() -> None:
    with pytest.raises(FileAccessError):
        Page("x").write("/proc/nowhere/report.html")


def test_learning_curves_skip_empty_cells(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,epoch,a,b\n1,0,2.0,\n2,0,1.0,5.0\n")
    curves = read_learning_curves(tmp_path)
    assert curves["a"][1].tolist() == [2.0, 1.0]
    assert curves["b"][0].tolist() == [2.0]
    (tmp_path / "metrics.csv").write_text("a\n1\n")
    with pytest.raises(FileAccessError, match="step"):
        read_learning_curves(tmp_path)
