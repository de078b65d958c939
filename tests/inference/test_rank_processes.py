"""Processes connected by gloo find what one finds alone."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import shared_systems as shared
import torch

from adatom.inference.engine import InferenceWarning

HERE = Path(__file__).resolve().parent


def run(folder: Path, size: int, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Start the processes and return what rank 0 found."""
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    results = folder / "results.pt"
    started = [
        subprocess.Popen(
            [
                sys.executable,
                str(HERE / "rank_process.py"),
                *(str(rank), str(size), str(folder / "store"), str(results), *names),
            ],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        for process in started:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    finally:
        for process in started:
            process.kill()
            process.wait()
    return torch.load(results, weights_only=True)


def require_whole(found: dict[str, torch.Tensor], names: tuple[str, ...]) -> None:
    for name in names:
        plain = shared.alone(shared.make(name))
        for case, make in shared.SYSTEMS.items():
            expected = plain.predict(shared.data_of(make()), ("energy", "forces", "stress"))
            own = {key: found[f"{name}/{case}/{key}"] for key in expected}
            shared.require_equal(own, expected)


def test_two_processes(tmp_path):
    names = ("uma",)
    require_whole(run(tmp_path, 2, names), names)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3, 4])
def test_several_processes_and_all_models(tmp_path, size):
    names = ("toy", "gcn", "egnn", "gaanet", "dimenet", "escn_md", "uma", "uma-counted")
    require_whole(run(tmp_path, size, names), names)


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InferenceWarning)
        yield
