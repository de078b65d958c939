"""Ctrl-C while LAMMPS runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Remembers Ctrl-C, so that it is raised where LAMMPS can be stopped and nowhere else.

    Raised at any place, it could hit the few lines between LAMMPS and the code that catches
    exceptions; there it would be lost, and a step be taken with old forces.
    """

    def __init__(self) -> None:
        self._pending = False

    def check(self) -> None:
        """Raise what was remembered.

        Raises:
            KeyboardInterrupt: Once, if there was Ctrl-C.
        """
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def remember(self, _signal: int, _frame: FrameType | None) -> None:
        """Handle the signal."""
        self._pending = True


@contextmanager
def remembered_interrupts() -> Iterator[Interrupts]:
    """Remember Ctrl-C in this context; only the main thread can (elsewhere it is not noticed)."""
    found = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = signal.signal(signal.SIGINT, found.remember)
    try:
        yield found
    finally:
        signal.signal(signal.SIGINT, before)
