"""Signals that end a run after its state is saved, on all processes at the same step."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Mapping
from types import FrameType
from typing import Any

import lightning as L  # noqa: N812 (the name that Lightning's documentation uses)
import torch
from torch import distributed

from adatom.core.console import say

#: SIGUSR1 is what SLURM is asked to send before it ends a job (``--signal=USR1@120``).
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Interruptions:
    """Listens for signals and agrees with the other processes what to do.

    Args:
        group: Of all processes, on the CPU; None if there is one.
    """

    def __init__(self, group: distributed.ProcessGroup | None) -> None:
        self._group = group
        self._heard: int | None = None
        self._handlers: dict[int, Any] = {}
        self._sent: tuple[distributed.Work | None, torch.Tensor] | None = None
        #: The signal that ends the run, agreed upon by all processes.
        self.signal: signal.Signals | None = None

    def listen(self) -> None:
        """Begin to listen, unless this is not the main thread."""
        for number in _SIGNALS:
            try:
                self._handlers[number] = signal.signal(number, self._hear)
            except ValueError:  # not in the main thread: signals go elsewhere
                return

    def unlisten(self) -> None:
        """Give the signals back, but for those that somebody else has taken or given back since."""
        while self._handlers:
            number, handler = self._handlers.popitem()
            if signal.getsignal(number) == self._hear:
                signal.signal(number, handler)

    def after_step(self, *, due: bool) -> bool:
        """Return whether to save now; every process must call this after each step.

        With several processes the answer is that of the step before, so that none has to wait.

        Args:
            due: Whether this process thinks that it is time to save.
        """
        if self._group is None:
            return self._decide(self._mine(due=due))
        answer = self._collect()
        flags = self._mine(due=due)
        operation = distributed.ReduceOp.MAX
        work = distributed.all_reduce(flags, operation, group=self._group, async_op=True)
        self._sent = (work, flags)
        return answer

    def now(self) -> None:
        """Agree at once; every process must call this at the same place."""
        self._collect()
        flags = self._mine(due=False)
        if self._group is not None:
            distributed.all_reduce(flags, distributed.ReduceOp.MAX, group=self._group)
        self._decide(flags)

    def _mine(self, *, due: bool) -> torch.Tensor:
        return torch.tensor([self._heard or 0, int(due)])

    def _collect(self) -> bool:
        if self._sent is None:
            return False
        (work, flags), self._sent = self._sent, None
        if work is not None:
            work.wait()
        return self._decide(flags)

    def _decide(self, flags: torch.Tensor) -> bool:
        number, due = (int(flag) for flag in flags.tolist())
        if number:
            self.signal = signal.Signals(number)
        return bool(due) or self.signal is not None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._heard is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: do not wait for the end of the step
        self._heard = number


def leave_signals_to_us(trainer: L.Trainer) -> None:
    """Keep Lightning from catching SIGTERM, which it does from before the first batch is read.

    Its handler (2.6) sends a message to the other processes wherever it interrupts this one. If
    that is while they wait for something else, such as in the preflight, all wait for ever. Until
    :meth:`Interruptions.listen` there is nothing to save: the signal ends the process.

    Args:
        trainer: That has not begun.
    """
    connector: Any = trainer._signal_connector  # noqa: SLF001 (there is no option for it)
    connector.register_signal_handlers = _nothing


def _nothing() -> None:
    """Stand for what Lightning would do."""


def requeue(environment: Mapping[str, str]) -> None:
    """Ask SLURM to run this job again; nothing happens outside of SLURM.

    Args:
        environment: Such as ``os.environ``.
    """
    job = environment.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in environment:
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment.get('SLURM_ARRAY_TASK_ID', '')}"
    if not re.fullmatch(r"\d+(_\d+)?", job):
        return
    command = ["scontrol", "requeue", job]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
        problem = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        problem = str(error)
    said = f"SLURM did not take it: {problem}" if problem else "SLURM will run it again."
    say(f"Asked to requeue job {job}. {said}")
