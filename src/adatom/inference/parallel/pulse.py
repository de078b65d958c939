"""Signs of life: a worker that computes answers pings meanwhile, one that hangs does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from adatom.inference.parallel.ray_cluster import require_ray

#: Pings of a worker within the longest silence.
_PINGS = 4
#: Looks at the answers between two pings.
_LOOKS = 2


class Pulse:
    """Notices workers that answer nothing during one call, not even a ping.

    A process that was stopped, a machine that swaps without end and a network that is gone look
    like a worker with much to do; pings tell them apart. The first is sent a fraction of the limit
    after the call, so that short calls are as fast as without.

    Args:
        ping: From a rank to the promise of an answer.
        limit: Seconds of silence that are borne.

    Attributes:
        limit: As given.
        tick: Seconds between looks at the answers.
    """

    def __init__(self, ping: Callable[[int], Any], limit: float) -> None:
        self.limit = limit
        self.tick = min(1.0, limit / (_PINGS * _LOOKS))
        self._ping = ping
        self._pings: dict[int, Any] = {}
        self._silence: dict[int, float] = {}
        self._last = time.monotonic()

    def silent(self, ranks: Iterable[int]) -> list[int]:
        """Look at the answers, ping where it is time, and return who was silent for too long.

        Args:
            ranks: Workers that have not finished the call.
        """
        now = time.monotonic()
        # While this process itself was stopped, or waited for a processor, it heard nobody.
        passed = min(now - self._last, 2 * self.tick)
        self._last = now
        return [rank for rank in ranks if self._silence_of(rank, passed) >= self.limit]

    def _silence_of(self, rank: int, passed: float) -> float:
        silence = self._silence.get(rank, 0.0) + passed
        ping = self._pings.get(rank)
        # A worker that is gone answers with an error; the call itself says that better.
        if ping is not None and require_ray().wait([ping], timeout=0)[0]:
            silence, ping = 0.0, None
        if ping is None and silence >= self.limit / _PINGS:
            ping = self._ping(rank)
        self._pings[rank], self._silence[rank] = ping, silence
        return silence
