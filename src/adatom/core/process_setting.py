"""A setting that belongs to the whole process, lent to threads for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class ProcessSetting(Generic[T]):
    """Lends a setting: threads that want the same value share it, others wait until they are done.

    Of two threads that simply set what they want and put back what they found, the first would
    compute with the value of the second, and the last would leave that of the first behind.

    Args:
        read: Returns the value.
        write: Changes it.
    """

    def __init__(self, read: Callable[[], T], write: Callable[[T], object]) -> None:
        self._read = read
        self._write = write
        self._changed = threading.Condition()
        # What each thread wants, the innermost scope last.
        self._wanted: dict[int, list[T]] = {}
        self._original: T

    @contextmanager
    def lend(self, value: T) -> Iterator[None]:
        """Have a value for a while; what was there before comes back with the last thread.

        A thread may want another value inside its own scope, and waits for all others then.
        """
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: not self._others(me) or self._read() == value)
            if not self._wanted:
                self._original = self._read()
            self._wanted.setdefault(me, []).append(value)
            self._write(value)
        try:
            yield
        finally:
            with self._changed:
                self._leave(me)

    def _leave(self, me: int) -> None:
        mine = self._wanted[me]
        ended = mine.pop()
        if mine and mine[-1] != ended:
            # Others may have entered that want what ends here.
            self._changed.wait_for(lambda: not self._others(me))
            self._write(mine[-1])
        if not mine:
            del self._wanted[me]
        if not self._wanted:
            self._write(self._original)
        self._changed.notify_all()

    def _others(self, me: int) -> bool:
        return any(thread != me for thread in self._wanted)
