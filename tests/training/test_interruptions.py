"""Signals and the queue of SLURM."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from adatom.training.interruptions import Interruptions, requeue


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_is_a_reason_to_save_and_end(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    found = Interruptions(None)
    found.listen()
    try:
        assert not found.after_step(due=False)
        assert found.after_step(due=True)
        assert found.signal is None
        os.kill(os.getpid(), number)
        assert found.after_step(due=False)
        assert found.signal == number
        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
    finally:
        found.unlisten()
    assert signal.getsignal(number) == before


def test_a_signal_that_another_has_taken_is_left_to_it() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found = Interruptions(None)
    found.listen()
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        found.unlisten()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def scontrol(folder: Path, code: int) -> Path:
    """Put a stand-in for SLURM's program where it is found."""
    program = folder / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\necho no >&2\nexit {code}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder / "asked"


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({"SLURM_JOB_ID": "12"}, "12"),
        (
            {
                "SLURM_JOB_ID": "14",
                "SLURM_ARRAY_JOB_ID": "12",
                "SLURM_ARRAY_TASK_ID": "3",
            },
            "12_3",
        ),
    ],
)
def test_a_job_of_slurm_is_requeued(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    job: str,
) -> None:
    asked = scontrol(tmp_path, 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    requeue(variables)
    assert asked.read_text().split() == ["requeue", job]
    assert "will run it again" in capsys.readouterr().err
    scontrol(tmp_path, 1)
    requeue(variables)
    assert "SLURM did not take it: no" in capsys.readouterr().err


def test_outside_of_slurm_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scontrol(tmp_path, 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    requeue({})
    requeue({"SLURM_JOB_ID": "1; rm -rf /"})
    assert not asked.exists()
