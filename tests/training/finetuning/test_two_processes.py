"""Fine-tuning in two processes gives what one process gives with the same batches."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import multiprocessing

from adatom.checkpoint.format import load_potential, save_potential
from adatom.core.errors import ConfigError
from adatom.tasks.potential import Potential
from adatom.training.finetuning.run import finetune
from adatom.training.finetuning.settings import FinetuningSettings, LoraSettings
from adatom.training.process_group import end_process_group


def settings(base: Path, data: Path, folder: Path, method: str) -> FinetuningSettings:
    """Return what a quick fine-tuning of six structures per step is told."""
    return FinetuningSettings(
        base=str(base),
        data=[str(data)],
        dataset="far",
        like="emt",
        method=method,
        layers=["backbone.blocks.0.atom_wise", "head"] if method == "layers" else None,
        lora=LoraSettings(rank=2),
        epochs=2,
        lr=0.003,
        batch_size=6,
        check=False,
        run_dir=str(folder),
    )


def _work(rank: int, several: list[FinetuningSettings], port: int) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    torch.set_num_threads(1)
    for one in several:
        finetune(one)
    end_process_group()


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the parameters of a potential."""
    return dict(load_potential(path).named_parameters())


KINDS = [("full", "ddp"), ("heads", "ddp"), ("layers", "ddp"), ("lora", "ddp")]
KINDS += [("full", "fsdp"), ("layers", "fsdp")]


@pytest.mark.slow
def test_two_processes_equal_one(small: Potential, shifted: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.safetensors"
    save_potential(small.double(), base)
    alone = [settings(base, shifted, tmp_path / f"{m}_{s}_1", m) for m, s in KINDS]
    both = [
        replace(one, devices=2, strategy=s, batch_size=3, run_dir=str(tmp_path / f"{m}_{s}_2"))
        for one, (m, s) in zip(alone, KINDS, strict=True)
    ]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    multiprocessing.spawn(_work, (both, port), nprocs=2)
    for one, two in zip(alone, both, strict=True):
        finetune(one)
        ours, theirs = (Path(str(s.run_dir)) for s in (two, one))
        found, wanted = (json.loads((f / "result.json").read_text()) for f in (ours, theirs))
        assert found["steps"] == wanted["steps"] > 2
        assert found["before"] == wanted["before"]
        mine, other = (r["after"]["Validation errors"]["far"]["forces"] for r in (found, wanted))
        assert mine["mae"] == pytest.approx(other["mae"], rel=1e-8)
        ours_now, theirs_now = (weights(folder / "best.safetensors") for folder in (ours, theirs))
        for name, value in theirs_now.items():
            assert torch.allclose(ours_now[name], value, rtol=1e-7, atol=1e-9), name


def test_low_rank_changes_cannot_be_shared_out(base: Path, shifted: Path, tmp_path: Path) -> None:
    lora = settings(base, shifted, tmp_path / "run", "lora")
    with pytest.raises(ConfigError, match=r"strategy is fsdp.*Set strategy: ddp"):
        finetune(replace(lora, devices=2, strategy="fsdp"))
    assert not (tmp_path / "run").exists()
