"""Triton kernels without a GPU: interpreted they equal plain PyTorch, and they compile."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adatom.core.errors import ConfigError
from adatom.nn.experts import Run
from adatom.nn.layout import CoefficientLayout
from adatom.nn.message_tiles import message_tiles
from adatom.nn.triton_messages import MessageWeights, triton_messages, unavailable

INTERPRETED = Path(__file__).parent / "interpreted"
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


def run_python(arguments: list[str], **environment: str) -> None:
    """Run Python in a process of its own and show what it said if it fails."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_triton
@pytest.mark.slow
def test_interpreted_kernels_equal_plain_pytorch():
    cases = str(INTERPRETED / "triton_cases.py")
    run_python(["-m", "pytest", "-x", "-p", "no:cacheprovider", cases], TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.slow
def test_kernels_compile_for_gpus_that_are_not_here(tmp_path):
    script = str(INTERPRETED / "compile_kernels.py")
    run_python([script], TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))


def test_reasons_not_to_run(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "pip install triton" in unavailable("cuda")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert "not on cpu" in unavailable("cpu")
    if not torch.cuda.is_available():
        assert "no CUDA device" in unavailable("cuda:0")


def test_a_machine_without_gpu_is_told_so(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    layout = CoefficientLayout(1, 1)
    empty = torch.zeros(0)
    weights = MessageWeights(layout, 2, 2, (empty, empty), [], None, [], None)
    with pytest.raises(ConfigError, match="execution mode"):
        triton_messages(torch.zeros(1, 4, 2), torch.zeros(0, 3), [], weights, lambda d, _: (d, d))


def test_tiles_hold_whole_atoms_of_one_group():
    target = torch.tensor([0, 0, 0, 2, 2, 3, 3, 3, 5])
    source = torch.tensor([1, 2, 5, 0, 5, 0, 2, 1, 0])
    (whole,) = message_tiles(source, target, [Run(0, 0, 7)], 7)
    assert whole.starts.tolist() == [0, 3, 3, 5, 8, 8, 9, 9]
    assert whole.sources.tolist() == list(range(7))
    tiles = message_tiles(source, target, [Run(1, 0, 3), Run(0, 3, 7)], 7, edges_per_tile=4)
    assert [tile.group for tile in tiles] == [1, 1, 0]
    assert [tile.atoms for tile in tiles] == [slice(0, 2), slice(2, 3), slice(3, 7)]
    assert [tile.edges for tile in tiles] == [slice(0, 3), slice(3, 5), slice(5, 9)]
    for tile in tiles:
        own = source[tile.edges]
        assert torch.equal(tile.ends, torch.stack([own, target[tile.edges]]))
        for i, atom in enumerate(tile.sources.tolist()):
            places = slice(int(tile.source_starts[i]), int(tile.source_starts[i + 1]))
            found = tile.by_source[places]
            assert found.tolist() == (own == atom).nonzero().flatten().tolist()
        assert int(tile.source_starts[-1]) == len(own)
        counts = [int((target[tile.edges] == atom).sum()) for atom in range(7)[tile.atoms]]
        assert tile.starts.diff().tolist() == counts
