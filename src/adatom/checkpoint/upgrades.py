"""From the description of an older format version to today's, one step per version.

``UPGRADES[n]`` takes a description of version n and returns one of version n + 1. Every step
keeps a stored file of its version in ``tests/checkpoint/files`` as its test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from adatom.core.errors import CheckpointError

#: The version that this adatom writes.
FORMAT_VERSION = 1

Upgrade: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

#: Version 1 is the first one, so there is nothing to upgrade from yet.
UPGRADES: dict[int, Upgrade] = {}


def upgrade(
    description: dict[str, Any],
    source: str,
    *,
    steps: Mapping[int, Upgrade] = UPGRADES,
    current: int = FORMAT_VERSION,
) -> dict[str, Any]:
    """Bring a description to the current format version.

    Args:
        description: As read from the file.
        source: The file's name, for messages.
        steps: Upgrade functions by the version they start from.
        current: The version to reach.

    Raises:
        CheckpointError: If the version is missing, newer than this adatom, or no longer readable.
    """
    version = description.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CheckpointError(
            f"{source!r} has the format version {version!r}", expected="a positive integer"
        )
    if version > current:
        writer = description.get("adatom_version", "a newer adatom")
        raise CheckpointError(
            f"{source!r} has format version {version}, written by adatom {writer}",
            expected=f"at most version {current}",
            fix="Update with: pip install --upgrade adatom",
        )
    for step in range(version, current):
        if step not in steps:
            raise CheckpointError(
                f"{source!r} has format version {step}, which this adatom no longer reads",
                expected=f"version {min(steps, default=current)} or newer",
            )
        description = {**steps[step](description), "format_version": step + 1}
    return description
