"""What goes wrong between LAMMPS and a potential."""

from __future__ import annotations

import re

from adatom.core.errors import AdatomError

_PREFIX = re.compile(r"^ERROR(?: on proc \d+)?: ")
_SOURCE = re.compile(r" \((?:[\w./]+\.(?:cpp|h)|\(library\)):\d+\)")


class LammpsError(AdatomError, RuntimeError):
    """LAMMPS refuses a command, or was stopped because the potential failed."""


def plain_message(error: Exception) -> str:
    """Return LAMMPS's first line of a message, without its place in LAMMPS's sources."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _SOURCE.sub("", _PREFIX.sub("", lines[0])).strip()
