"""Two processes that train together, killed and interrupted at random moments."""

from __future__ import annotations

import csv
import json
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
from adatom.training.checkpointing.directory import checkpoints_in, verify_checkpoint

TESTS = Path(__file__).resolve().parent.parent
#: 5 epochs of 9 steps.
_TRAINER = "max_epochs: 5, deterministic: true, accelerator: cpu, precision: 64-true"
TWO = {
    "trainer": f"{{{_TRAINER}, devices: 2}}",
    "data.batch_size": "1",
    "checkpoint": "{every_steps: 4}",
}
#: The same steps in one process.
ONE = TWO | {"trainer": f"{{{_TRAINER}, devices: 1}}", "data.batch_size": "2"}

Config = Callable[..., Path]


def start(config: Path, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "adatom", "s2ef", "fit", "--config", str(config)]
    return subprocess.Popen(
        [*command, "--run_dir", str(folder)],
        env=os.environ | {"PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Both processes are one group, so that both can be killed at once.
        start_new_session=True,
    )


def rows(folder: Path) -> list[list[str]]:
    path = folder / "metrics.csv"
    return list(csv.reader(path.read_text().splitlines())) if path.exists() else []


def wait_for_rows(process: subprocess.Popen[str], folder: Path, count: int) -> None:
    deadline = time.monotonic() + 300.0
    while len(rows(folder)) < count and process.poll() is None:
        assert time.monotonic() < deadline, "the training did not get on"
        time.sleep(0.002)


def wait_for_the_end(process: subprocess.Popen[str]) -> str:
    """Return what was complained about when no process of the group is left."""
    _, message = process.communicate(timeout=120)
    deadline = time.monotonic() + 120.0
    while True:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return message
        assert time.monotonic() < deadline, "a process is left over"
        time.sleep(0.05)


def assert_close(folder: Path, reference: Path) -> None:
    ours, theirs = rows(folder), rows(reference)
    assert ours[0] == theirs[0]
    assert len(ours) == len(theirs)
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        assert [float(x or 0) for x in mine] == pytest.approx(
            [float(x or 0) for x in other], rel=1e-8, abs=1e-10
        )


@pytest.fixture(scope="module")
def alone(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in one process what two processes train together."""
    folder = tmp_path_factory.mktemp("run") / "alone"
    main(["fit", "--config", str(config(**ONE)), "--run_dir", str(folder)])
    return folder


def resume_alone(config: Path, folder: Path) -> None:
    more = ["--trainer.devices", "1"]
    main(["fit", "--config", str(config), "--run_dir", str(folder), *more])


def test_killed_in_two_processes_and_resumed_in_one(
    alone: Path, config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    process = start(config(**TWO), folder)
    wait_for_rows(process, folder, 24)
    os.killpg(process.pid, signal.SIGKILL)
    wait_for_the_end(process)
    for path in checkpoints_in(folder / "checkpoints"):
        verify_checkpoint(path)
        assert len(list(path.glob("rank_*.json"))) == 2
    resume_alone(config(**TWO), folder)
    assert_close(folder, alone)


def test_a_signal_to_one_process_saves_on_both(alone: Path, config: Config, tmp_path: Path) -> None:
    never = TWO | {"checkpoint": "{every_seconds: null}"}
    folder = tmp_path / "interrupted"
    process = start(config(**never), folder)
    wait_for_rows(process, folder, 24)
    process.send_signal(signal.SIGTERM)
    message = wait_for_the_end(process)
    assert process.returncode == 2, message
    assert message.count("interrupted by SIGTERM") == 1
    assert "Traceback" not in message
    resume_alone(config(**never), folder)
    assert_close(folder, alone)


@pytest.fixture(scope="module")
def together(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "together"
    process = start(config(**TWO), folder)
    wait_for_the_end(process)
    assert process.returncode == 0
    return folder


def strike_at_random(
    config: Path, folder: Path, strike: Callable[[subprocess.Popen[str], random.Random], None]
) -> None:
    """Start and stop ten times, at no particular point of a step, then train to the end."""
    chance = random.Random(7)
    for i in range(10):
        process = start(config, folder)
        # At least a little further each time.
        wait_for_rows(process, folder, min(45, max(len(rows(folder)), 5 * i) + 3))
        time.sleep(chance.random() * 0.1)
        strike(process, chance)
        wait_for_the_end(process)
        assert process.returncode != 0
    process = start(config, folder)
    wait_for_the_end(process)
    assert process.returncode == 0


def assert_same(folder: Path, reference: Path) -> None:
    assert (folder / "metrics.csv").read_text() == (reference / "metrics.csv").read_text()
    for name in ("best.safetensors", "last.safetensors"):
        assert (folder / name).read_bytes() == (reference / name).read_bytes()


@pytest.mark.slow
def test_kill_9_ten_times(together: Path, config: Config, tmp_path: Path) -> None:
    def strike(process: subprocess.Popen[str], chance: random.Random) -> None:
        if chance.random() < 0.5:
            os.killpg(process.pid, signal.SIGKILL)
        else:  # the other one notices
            process.kill()

    folder = tmp_path / "killed"
    strike_at_random(config(**TWO), folder, strike)
    assert_same(folder, together)


@pytest.mark.slow
def test_sigterm_ten_times(together: Path, config: Config, tmp_path: Path) -> None:
    def strike(process: subprocess.Popen[str], chance: random.Random) -> None:
        if chance.random() < 0.5:
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.send_signal(signal.SIGTERM)

    folder = tmp_path / "interrupted"
    strike_at_random(config(**TWO), folder, strike)
    assert_same(folder, together)


@pytest.mark.slow
def test_kill_9_with_several_batches_per_step(config: Config, tmp_path: Path) -> None:
    trainer = f"{{{_TRAINER}, devices: 2, accumulate_grad_batches: 2}}"
    several = config(**TWO | {"trainer": trainer, "checkpoint": "{every_steps: 2}"})
    whole = tmp_path / "whole"
    wait_for_the_end(start(several, whole))
    folder = tmp_path / "killed"
    for count in (4, 12):
        process = start(several, folder)
        wait_for_rows(process, folder, count)
        os.killpg(process.pid, signal.SIGKILL)
        wait_for_the_end(process)
    wait_for_the_end(start(several, folder))
    # 18 structures are nine batches for both processes, five steps an epoch; one more row each.
    assert len(rows(whole)) == 1 + 5 * (5 + 1)
    assert_same(folder, whole)


@pytest.mark.slow
def test_begun_in_one_process_and_resumed_in_two(
    alone: Path, config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "begun"
    process = start(config(**ONE), folder)
    wait_for_rows(process, folder, 24)
    process.kill()
    wait_for_the_end(process)
    process = start(config(**ONE | {"trainer": TWO["trainer"]}), folder)
    wait_for_the_end(process)
    assert process.returncode == 0
    assert_close(folder, alone)


@pytest.mark.slow
def test_sharded_weights_are_resumed_in_one_process(
    alone: Path, config: Config, tmp_path: Path
) -> None:
    sharded = TWO | {"model.train_strategy": "fsdp"}
    folder = tmp_path / "sharded"
    process = start(config(**sharded), folder)
    wait_for_rows(process, folder, 24)
    os.killpg(process.pid, signal.SIGKILL)
    wait_for_the_end(process)
    before = json.loads((folder / "preflight.json").read_text())
    assert before["parameters_without_gradient"] == []
    resume_alone(config(**sharded), folder)
    assert_close(folder, alone)
