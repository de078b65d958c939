"""Every mistake in a configuration of the Open Catalyst way is one sentence, and ends with 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adatom.cli.main import main

RELAXATIONS = "data/oc20_relaxations"
FILES = {"s2ef": "s2ef_train.aselmdb", "is2re": "is2re.aselmdb"}


def configuration(verb: str, train: Path | str, run: Path) -> dict[str, Any]:
    return {
        "model": {"gnn": {"class_path": "GraphConvModel", "init_args": {"out_dim": 8}}},
        "data": {
            "class_path": "GraphDataModule",
            "init_args": {"train_path": str(train), "batch_size": 4},
        },
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 5e-4}},
        "trainer": {"max_steps": 1, "accelerator": "cpu"},
        "run_dir": str(run / verb),
    }


def with_change(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *outer, last = path.split(".")
    inner = content
    for name in outer:
        inner = inner.setdefault(name, {})
    inner[last] = value
    return content


def complaint(verb: str, content: dict[str, Any], folder: Path, capsys: Any) -> str:
    """Return what the command says on standard error; it must end with 2."""
    file = folder / "config.yaml"
    file.write_text(json.dumps(content))
    assert main([verb, "fit", "--config", str(file)]) == 2
    text = capsys.readouterr().err.strip()
    # One paragraph: no trace, no usage, no list of what a library tried.
    assert text.startswith("adatom: ")
    assert "\n" not in text
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize("verb", ["s2ef", "is2re"])
@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("optimiser.class_path", "torch.optim.Adam", "Unknown key 'optimiser.class_path'"),
        ("optimiser", {}, "did you mean 'optimizer'"),
        ("model.normalise", True, "Unknown key 'model.normalise'"),
        ("model.gnn.init_args.out_dims", 8, "'out_dims'; did you mean 'out_dim'"),
        ("model.gnn.init_args.out_dim", "many", "out_dim is 'many'"),
        ("model.normalize_kwargs.target_men", 0.0, "did you mean 'target_mean'"),
        ("data.init_args.batchsize", 4, "did you mean 'batch_size'"),
        ("optimizer.init_args.learning_rate", 0.1, "Unknown key 'learning_rate'"),
        ("trainer.max_step", 3, "did you mean 'trainer.max_steps'"),
        ("model.gnn.class_path", "GraphConvModl", "did you mean 'GraphConvModel'"),
        ("model.gnn.class_path", "os.system", "'os.system'"),
        ("data.class_path", "DGLDataModul", "did you mean 'DGLDataModule'"),
        ("optimizer.class_path", "torch.optim.Adm", "did you mean 'Adam'"),
        ("lr_scheduler.class_path", "torch.optim.lr_scheduler.ExponentialRL", "ExponentialLR"),
        ("data.init_args.train_path", "/no/such/folder", "'/no/such/folder' does not exist"),
    ],
)
def test_wrong_key_class_or_path(verb, path, value, says, tmp_path, capsys):
    existing = tmp_path / "never_read.aselmdb"
    content = with_change(configuration(verb, existing, tmp_path), path, value)
    assert says in complaint(verb, content, tmp_path, capsys)


@pytest.mark.parametrize("verb", ["s2ef", "is2re"])
@pytest.mark.parametrize("kept", [0, 1000, 0.3, 0.95])
def test_truncated_lmdb(verb, kept, shared, tmp_path, capsys):
    whole = (shared / RELAXATIONS / FILES[verb]).read_bytes()
    cut = tmp_path / "cut.lmdb"
    cut.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])
    text = complaint(verb, configuration(verb, cut, tmp_path), tmp_path, capsys)
    assert str(cut) in text
    assert ("is cut off" if kept else "is empty") in text
