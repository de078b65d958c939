"""Dynamics over two workers: one of them is killed, and the run goes on as if nothing was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io.trajectory import Trajectory
from ase.io.ulm import InvalidULMFileError

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

STEPS = 100


def command(folder: Path, name: str, *options: str) -> list[str]:
    return [
        sys.executable, "-m", "adatom", "md", str(folder / "start.xyz"), "-o",
        str(folder / name), "--task", "zuo2020", "--dtype", "float64", "--steps", str(STEPS),
        "--interval", "2", *options,
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.rattle(0.05, seed=3)
    atoms.write(tmp_path / "start.xyz")
    return tmp_path


def processes(mark: str) -> dict[int, str]:
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().decode()
        except OSError:
            continue
    return {pid: name for pid, name in found.items() if name}


def workers(mark: str) -> list[int]:
    return [pid for pid, name in processes(mark).items() if name.startswith("ray::Worker")]


@pytest.fixture
def start():
    """Return what starts a run, in a session of its own; those that hang are ended."""
    runs: list[subprocess.Popen[str]] = []

    def start(line: list[str], mark: str) -> subprocess.Popen[str]:
        environment = os.environ | {"RAY_ADDRESS": "local", "ADATOM_TEST_MARK": mark}
        run = subprocess.Popen(
            line, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        runs.append(run)
        return run

    yield start
    for run in runs:
        run.kill()
        run.communicate()


def wait_for_frames(path: Path, count: int, run: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 400
    while time.monotonic() < end:
        assert run.poll() is None, run.communicate()
        # One that is being created has no header yet.
        with suppress(OSError, InvalidULMFileError), Trajectory(path) as frames:
            if len(frames) >= count:
                return
        time.sleep(0.1)
    pytest.fail("the run writes no frames")


def test_a_killed_worker_ends_the_run_which_continues(folder, start):
    mark, path = uuid.uuid4().hex, folder / "md.traj"
    run = start(command(folder, "md.traj", "--workers", "2"), mark)
    wait_for_frames(path, 4, run)
    victim = workers(mark)[-1]
    begin = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    _, err = run.communicate(timeout=60)
    # From the kill to the end of the command: all Ray processes are gone by then, too.
    assert time.monotonic() - begin < 10
    assert run.returncode == 2
    assert "of 2 (node 127.0.0.1, process" in err
    assert f"process {victim}) died" in err
    assert "--restart" in err
    assert "Traceback" not in err
    end = time.monotonic() + 15
    while processes(mark) and time.monotonic() < end:
        time.sleep(0.2)
    assert processes(mark) == {}
    with Trajectory(path) as frames:
        saved = len(frames)
        assert np.isfinite(frames[-1].get_potential_energy())
    assert 4 <= saved < STEPS // 2 + 1

    again = start(command(folder, "md.traj", "--workers", "2", "--restart"), mark)
    assert again.wait(timeout=500) == 0, again.communicate()
    alone = start(command(folder, "alone.traj"), mark)
    assert alone.wait(timeout=500) == 0, alone.communicate()
    with Trajectory(path) as frames, Trajectory(folder / "alone.traj") as expected:
        assert len(frames) == len(expected) == STEPS // 2 + 1
        for found, wanted in zip(frames, expected, strict=True):
            np.testing.assert_allclose(found.positions, wanted.positions, rtol=0, atol=1e-8)
            energy = found.get_potential_energy()
            assert energy == pytest.approx(wanted.get_potential_energy(), abs=1e-8)


def test_ctrl_c_finishes_the_step(folder, start):
    mark, path = uuid.uuid4().hex, folder / "md.traj"
    line = [*command(folder, "md.traj", "--workers", "2"), "--steps", "5000"]
    run = start(line, mark)
    wait_for_frames(path, 3, run)
    # As a terminal does: to all processes of the group.
    os.killpg(run.pid, signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGINT, err
    assert "continue with --restart" in out + err
    end = time.monotonic() + 15
    while processes(mark) and time.monotonic() < end:
        time.sleep(0.2)
    assert processes(mark) == {}
