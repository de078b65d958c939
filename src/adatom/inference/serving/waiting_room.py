"""Requests between the threads that ask and the one that computes; bounded."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from adatom.inference.packing import Item
from adatom.inference.prediction import Prediction
from adatom.inference.serving.errors import BusyError, ClosedError

#: Who was just answered is waited for so long, as a share of the last batch's time, and at most
#: so many seconds: a batch that starts without them would be small, and they wait for its end.
_PATIENCE, _MOST_PATIENCE = 0.1, 0.02
#: Seconds that a refused client is told to wait, at least and at most.
_RETRY_AFTER = (1.0, 60.0)


@dataclass(slots=True, eq=False)
class Request:
    """One structure that somebody waits for.

    Attributes:
        item: The structure; its number counts requests.
        names: Checked properties, or None for the defaults.
        future: Where the prediction or the error goes. A cancelled one is not computed.
        arrived: When, in seconds of the monotonic clock.
    """

    item: Item
    names: tuple[str, ...] | None
    future: Future[Prediction] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


class WaitingRoom:
    """A bounded first-in-first-out queue of requests.

    Args:
        max_waiting: Structures at most.
    """

    def __init__(self, max_waiting: int) -> None:
        self.max_waiting = max_waiting
        self._queue: deque[Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._expected = 0
        self._batch_seconds = 0.0
        self._seconds_each = 0.0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waits, and no more than one structure is likely to come."""
        with self._changed:
            return not self._queue and self._expected <= 1 and not self._closed

    def put(self, requests: Sequence[Request], *, wait: bool) -> None:
        """Add requests, all or none.

        Args:
            requests: No more than may wait at all.
            wait: Wait for room instead of refusing.

        Raises:
            BusyError: If there is no room.
            ClosedError: If nothing is taken any more.
        """
        with self._changed:
            while not self._closed and len(self._queue) + len(requests) > self.max_waiting:
                if not wait:
                    raise BusyError(
                        f"{len(self._queue)} structures are waiting, of {self.max_waiting} at most",
                        retry_after=self.retry_after(),
                    )
                self._changed.wait()
            if self._closed:
                raise ClosedError("The batcher was closed", fix="Open another one.")
            self._queue.extend(requests)
            self._changed.notify_all()

    def retry_after(self) -> float:
        """Return in how many seconds most of what waits now will be done, as far as is known."""
        low, high = _RETRY_AFTER
        return min(high, max(low, len(self._queue) * self._seconds_each))

    def take(self, max_atoms: int, *, wait: bool) -> list[Request] | None:
        """Take requests in order.

        Args:
            max_atoms: Not more, but at least one request.
            wait: Wait for the first one.

        Returns:
            The requests, or None when the room is closed and empty.
        """
        with self._changed:
            if wait:
                self._wait_for_some()
            if not self._queue:
                return None if self._closed else []
            taken: list[Request] = []
            atoms = 0
            while self._queue and (not taken or atoms + self._queue[0].item.atoms <= max_atoms):
                taken.append(self._queue.popleft())
                atoms += taken[-1].item.atoms
            self._changed.notify_all()
            return taken

    def answered(self, count: int, seconds: float) -> None:
        """Note that so many were answered in a batch that took so long: they may come again."""
        with self._changed:
            self._expected = len(self._queue) + count
            self._batch_seconds = seconds
            each = seconds / max(1, count)
            self._seconds_each = (
                each if not self._seconds_each else (0.8 * self._seconds_each + 0.2 * each)
            )

    def close(self) -> None:
        """Take nothing more; what waits is still handed out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait_for_some(self) -> None:
        while not self._queue and not self._closed:
            self._changed.wait()
        until = time.monotonic() + min(_MOST_PATIENCE, _PATIENCE * self._batch_seconds)
        while len(self._queue) < self._expected and not self._closed:
            left = until - time.monotonic()
            if left <= 0 or not self._changed.wait(left):
                break
