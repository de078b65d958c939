"""UMA's training in small, on real sets: two stages, one and two processes, DDP and FSDP2."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adatom.checkpoint.format import load_potential
from adatom.cli.main import main as adatom

#: Fewer structures and steps than the configurations have.
FEW = [
    "--trainer.max_steps", "3", "--report", "false", "--data.check", "false",
    "--data.train.0.index", "::50", "--data.train.1.index", "::250", "--data.train.4.index", "::40",
]  # fmt: skip
#: So that sums in another order do not hide a mistake.
EXACT = ["--trainer.precision", "64-true", "--trainer.accelerator", "cpu"]
STAGES = {"direct": "uma_small_direct", "conserving": "uma_small"}


def configuration(repository: Path, shared: Path, folder: Path, stage: str) -> str:
    """Return the path of a copy that finds its data."""
    text = (repository / "configs" / f"{STAGES[stage]}.yaml").read_text(encoding="utf-8")
    path = folder / f"{stage}.yaml"
    path.write_text(text.replace("../shared", str(shared)), encoding="utf-8")
    return str(path)


def curve(folder: Path) -> list[dict[str, float]]:
    """Return every logged value of every step."""
    with (folder / "metrics.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["train/loss"]]
    return [{k: float(v) for k, v in row.items() if k.startswith("train/")} for row in rows]


def begin_from(folder: Path) -> list[str]:
    return ["--model.start_from.checkpoint", str(folder / "best.safetensors")]


def test_two_stages(repository: Path, shared: Path, tmp_path: Path) -> None:
    small = ["--data.max_atoms", "200", "--trainer.max_steps", "2"]
    for stage in STAGES:
        path = configuration(repository, shared, tmp_path, stage)
        options = ["--config", path, "--run_dir", str(tmp_path / stage), *FEW, *small]
        options += begin_from(tmp_path / "direct") if stage == "conserving" else []
        assert adatom(["s2ef", "fit", *options]) == 0
        assert len(curve(tmp_path / stage)) == 2
    direct, conserving = (load_potential(tmp_path / s / "best.safetensors") for s in STAGES)
    assert set(direct.direct_properties) == {"forces", "stress"}
    assert not conserving.direct_properties
    assert (direct.backbone.max_neighbors, conserving.backbone.max_neighbors) == (30, 300)
    names = {"acac", "qm7x", "oc20", "ec_emc", "zuo2020"}
    assert set(direct.domains) == set(conserving.domains) == names
    for name in names:
        before, after = (p.task_for(name, "energy") for p in (direct, conserving))
        assert before.element_references is not None
        assert before.element_references.equal(after.element_references)
        assert after.loss_fn is not None
        assert after.loss_fn["coefficient"] == 20.0


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(
    repository: Path, shared: Path, tmp_path: Path
) -> None:
    """Both stages, DDP and FSDP2; what one process has per batch, two share."""
    # Processes of an earlier launcher must not be found.
    environment = {k: v for k, v in os.environ.items() if "RANK" not in k and "WORLD" not in k}
    for stage in STAGES:
        common = ["--config", configuration(repository, shared, tmp_path, stage), *FEW, *EXACT]
        # bfloat16 rounds too coarsely for this comparison.
        common += ["--model.bf16", "false"] if stage == "direct" else []
        common += begin_from(tmp_path / "direct-one") if stage == "conserving" else []
        curves = {}
        for kind in ("one", "ddp", "fsdp"):
            folder = tmp_path / f"{stage}-{kind}"
            several = ["--trainer.devices", "2", "--trainer.strategy", kind]
            half = ["--data.max_atoms", "200"]
            options = [
                *common,
                "--run_dir",
                str(folder),
                *([] if kind == "one" else several + half),
            ]
            command = [sys.executable, "-m", "adatom", "s2ef", "fit", *options]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=900, check=False
            )
            assert done.returncode == 0, done.stderr
            curves[kind] = curve(folder)
        assert len(curves["one"]) == 3
        for kind in ("ddp", "fsdp"):
            for alone, together in zip(curves["one"], curves[kind], strict=True):
                assert together == pytest.approx(alone, rel=1e-8, abs=1e-10), (stage, kind)
