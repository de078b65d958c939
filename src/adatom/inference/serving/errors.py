"""What can go wrong between a client and the batching service, besides the structures."""

from __future__ import annotations

from adatom.core.errors import AdatomError


class ServiceError(AdatomError, ConnectionError):
    """A batching service cannot be reached, refuses a request, or failed."""


class BusyError(ServiceError):
    """So much is waiting already that a request was refused; it may be sent again later.

    Args:
        found: What is full.
        retry_after: Seconds after which a new attempt makes sense.
        fix: What the user can do about it.
    """

    def __init__(self, found: str, *, retry_after: float, fix: str | None = None) -> None:
        super().__init__(found, fix=fix or f"Try again in {retry_after:.0f} s.")
        self.retry_after = retry_after


class ClosedError(ServiceError):
    """The batcher takes nothing more: it was closed, or another potential took its place."""
