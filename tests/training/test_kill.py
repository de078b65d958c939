"""Real processes, killed and interrupted at random moments."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adatom.cli.s2ef import main

TESTS = Path(__file__).resolve().parent.parent
#: 5 epochs of 18 steps.
LONG = {
    "trainer": "{max_epochs: 5, deterministic: true}",
    "data.batch_size": "1",
    "checkpoint": "{every_steps: 7}",
}


def start(config: Path, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "adatom", "s2ef", "fit", "--config", str(config)]
    return subprocess.Popen(
        [*command, "--run_dir", str(folder)],
        env=os.environ | {"PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"},
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(folder: Path) -> int:
    path = folder / "metrics.csv"
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for_rows(process: subprocess.Popen[str], folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120.0
    while rows(folder) < count and process.poll() is None:
        assert time.monotonic() < deadline, "the training did not get on"
        time.sleep(0.002)


def resume(config: Path, folder: Path) -> None:
    main(["fit", "--config", str(config), "--run_dir", str(folder)])


def assert_same(folder: Path, reference: Path) -> None:
    assert (folder / "metrics.csv").read_text() == (reference / "metrics.csv").read_text()
    for name in ("best.safetensors", "last.safetensors"):
        assert (folder / name).read_bytes() == (reference / name).read_bytes()


@pytest.fixture(scope="module")
def reference(config: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "uninterrupted"
    resume(config(**LONG), folder)
    return folder


def test_kill_9_once(reference: Path, config: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    process = start(config(**LONG), folder)
    wait_for_rows(process, folder, 37)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    resume(config(**LONG), folder)
    assert_same(folder, reference)


@pytest.mark.slow
def test_kill_9_ten_times(reference: Path, config: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    chance = random.Random(7)
    total = rows(reference)
    for i in range(10):
        process = start(config(**LONG), folder)
        # At least a little further each time, at no particular point of a step.
        seen = rows(folder)
        wait_for_rows(process, folder, min(total - 5, max(seen, total * i // 10) + 3))
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    resume(config(**LONG), folder)
    assert_same(folder, reference)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_ends(
    reference: Path, config: Callable[..., Path], tmp_path: Path, number: signal.Signals
) -> None:
    never = LONG | {"checkpoint": "{every_seconds: null}"}
    folder = tmp_path / "interrupted"
    process = start(config(**never), folder)
    wait_for_rows(process, folder, 33)
    process.send_signal(number)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"interrupted by {number.name}" in message
    assert "Give the same command again" in message
    assert "Traceback" not in message
    resume(config(**never), folder)
    assert_same(folder, reference)
