"""Errors of workers, as plain data on their way and as the same errors again at the caller's."""

from __future__ import annotations

import importlib
import traceback
from dataclasses import dataclass

from adatom.core.errors import AdatomError, WorkerError


@dataclass(frozen=True)
class Failure:
    """An error in a worker.

    Attributes:
        module: Where its class is defined.
        name: Its class.
        found: As in :class:`AdatomError`; of another error its message.
        expected: As in :class:`AdatomError`.
        fix: As in :class:`AdatomError`.
        ours: Whether it is an :class:`AdatomError`.
        trace: Where it happened.
    """

    module: str
    name: str
    found: str
    expected: str | None
    fix: str | None
    ours: bool
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Describe an error."""
        kind = type(error)
        trace = "".join(traceback.format_exception(error))
        if isinstance(error, AdatomError):
            return cls(
                kind.__module__,
                kind.__qualname__,
                error.found,
                error.expected,
                error.fix,
                ours=True,
                trace=trace,
            )
        lines = str(error).strip().splitlines()
        found = lines[0] if lines else ""
        return cls(kind.__module__, kind.__qualname__, found, None, None, ours=False, trace=trace)

    def same(self, other: Failure) -> bool:
        """Tell whether two workers failed for the same reason."""
        return (self.name, self.found) == (other.name, other.found)

    def error(self, who: str) -> AdatomError:
        """Return the error to raise.

        Args:
            who: The worker, in words.
        """
        if self.ours:
            kind = getattr(importlib.import_module(self.module), self.name, WorkerError)
            found = kind.__new__(kind)
            # Some classes make their message themselves; here it is made already.
            AdatomError.__init__(found, self.found, expected=self.expected, fix=self.fix)
        else:
            reason = f"{self.name}: {self.found}" if self.found else self.name
            found = WorkerError(f"{who} failed: {reason}")
        found.add_note(f"In {who}:\n{self.trace.rstrip()}")
        return found  # type: ignore[no-any-return]
