"""Which Ray cluster there is to connect to."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from adatom.core.errors import ConfigError

#: Starts a cluster in any case.
LOCAL = "local"
_SECONDS = 10.0


def find_cluster(address: str | None) -> str | None:
    """Return the address of the cluster to connect to, or None to start one.

    It is the one that is given, else that of ``RAY_ADDRESS``, else the one that ``ray start``
    started on this machine for this user. Others that run here, as those of other runs of adatom,
    are left alone: they end with their own runs.

    Args:
        address: As ``"10.0.0.1:6379"``, or ``"local"`` for None.

    Raises:
        ConfigError: If nothing answers there. Ray itself would end this process.
    """
    named = address or os.environ.get("RAY_ADDRESS") or None
    if named == LOCAL:
        return None
    if named in (None, "auto"):
        found = _started_here()
        if found is None and named == "auto":
            raise ConfigError(
                "There is no Ray cluster on this machine", fix="Start one with: ray start --head"
            )
        return found
    if not _answers(named):
        raise ConfigError(
            f"There is no Ray cluster at {named!r}",
            expected="host and port, such as 10.0.0.1:6379",
            fix="Start one with 'ray start --head', or set RAY_ADDRESS to 'local'.",
        )
    return named


def _started_here() -> str | None:
    """Return the address that ``ray start`` left, if it still runs."""
    file = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")  # noqa: S108
    try:
        own = file.stat().st_uid == os.getuid()
        found = file.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return found if own and _answers(found) else None


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS):
            return True
    except (OSError, ValueError, OverflowError):
        return False
