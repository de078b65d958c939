"""Calls to all workers at once: answers, errors, and workers that die or hang."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from adatom.core.errors import AdatomError, WorkerDiedError
from adatom.inference.parallel.failures import Failure
from adatom.inference.parallel.pulse import Pulse
from adatom.inference.parallel.ray_cluster import require_ray
from adatom.inference.parallel.worker import Place, Reply

#: Seconds that workers are waited for once one of them failed. They may wait for it in vain.
GRACE = 5.0
_TICK = 1.0


class BrokenCallError(Exception):
    """A call failed, and the workers cannot be used as they are.

    Args:
        error: What to tell the caller.
        died: Whether a worker died; else they only are out of step, and can be started anew.
    """

    def __init__(self, error: AdatomError, *, died: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.died = died


def gather(
    refs: Sequence[Any],
    places: Mapping[int, Place],
    what: str,
    *,
    timeout: float | None = None,
    pulse: Pulse | None = None,
) -> list[Reply]:
    """Wait for the answers of all workers.

    Args:
        refs: One per rank, promising a :class:`Reply`.
        places: Where the workers are, as far as known.
        what: What they are doing, for messages.
        timeout: Seconds; None waits as long as they live.
        pulse: Notices those that hang.

    Returns:
        Answers by rank.

    Raises:
        AdatomError: What all of them failed with; they can be used further.
        BrokenCallError: What one failed with, or that one died or hangs; they cannot.
    """
    ray = require_ray()
    pending = {ref: rank for rank, ref in enumerate(refs)}
    replies: dict[int, Reply] = {}
    deadline = None if timeout is None else time.monotonic() + timeout
    failed: dict[int, Failure] = {}
    tick = _TICK if pulse is None else pulse.tick
    while pending and (deadline is None or time.monotonic() < deadline):
        ready, _ = ray.wait(list(pending), num_returns=1, timeout=tick)
        for ref in ready:
            rank = pending.pop(ref)
            try:
                reply = ray.get(ref)
            except ray.exceptions.RayError as error:
                raise BrokenCallError(_died(rank, refs, places, what, error), died=True) from None
            replies[rank] = reply
            if reply.failure is not None:
                if not failed:
                    deadline = time.monotonic() + GRACE
                failed[rank] = reply.failure
        if pulse is not None and not ready and (deaf := pulse.silent(pending.values())):
            raise BrokenCallError(_hangs(deaf, len(refs), places, what, pulse), died=True)
    if failed:
        raise _failed(failed, len(refs), places)
    if pending:
        silent = ", ".join(who(rank, len(refs), places) for rank in sorted(pending.values()))
        lost = WorkerDiedError(
            f"No answer within {timeout:g} s while {what}: {silent}",
            fix="Look at the machine and its network, then call restart().",
        )
        raise BrokenCallError(lost, died=True)
    return [replies[rank] for rank in range(len(refs))]


def who(rank: int, size: int, places: Mapping[int, Place]) -> str:
    """Name a worker."""
    place = places.get(rank)
    where = "" if place is None else f" (node {place.node}, process {place.pid})"
    return f"worker {rank} of {size}{where}"


def _failed(
    failed: Mapping[int, Failure], size: int, places: Mapping[int, Place]
) -> AdatomError | BrokenCallError:
    # A worker that lost another one in a collective fails too, with an error that is not ours.
    rank = min(failed, key=lambda rank: (not failed[rank].ours, list(failed).index(rank)))
    failure = failed[rank]
    error = failure.error(who(rank, size, places).capitalize())
    together = len(failed) == size and all(failure.same(other) for other in failed.values())
    if together and failure.ours:
        return error
    return BrokenCallError(error, died=False)


def _died(
    rank: int, refs: Sequence[Any], places: Mapping[int, Place], what: str, error: Exception
) -> WorkerDiedError:
    name = who(rank, len(refs), places).capitalize()
    return WorkerDiedError(
        f"{name} died while {what}: {_reason(error)}",
        fix="Call restart() to start all workers again.",
    )


def _hangs(
    ranks: Sequence[int], size: int, places: Mapping[int, Place], what: str, pulse: Pulse
) -> WorkerDiedError:
    names = ", ".join(who(rank, size, places) for rank in ranks).capitalize()
    return WorkerDiedError(
        f"{names} stopped answering while {what}: nothing was heard for {pulse.limit:g} s",
        fix="Look at the machine and its network, then call restart() to start all again.",
    )


def _reason(error: Exception) -> str:
    """Say in one sentence what Ray says in many."""
    text = " ".join(str(error).split())
    low = text.lower()
    if "running low on memory" in low or "memory usage threshold" in low:
        return "its node ran low on memory and Ray ended it"
    if "connection error code 2" in low or "end of file" in low:
        return "it was killed (by a user, the queue or for lack of memory) or crashed"
    if "node" in low and ("node died" in low or "node was terminated" in low or "has died" in low):
        return "its node is gone"
    # Before it Ray lists what it calls the worker.
    return text.rpartition("The actor is dead because ")[2] or type(error).__name__
