"""From what a user types to a file: a path, or the name of a potential."""

from __future__ import annotations

import os
from pathlib import Path

from adatom.core.errors import CheckpointError, unknown_name
from adatom.core.files import require_readable

_PRETRAINED = Path(__file__).parent / "pretrained"

#: Potentials that come with the package, by name.
EMBEDDED = {"default": _PRETRAINED / "default.safetensors"}


def resolve_checkpoint(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the checkpoint file of a path or name; a local file goes before a name.

    Raises:
        FileAccessError: If it is a path to a missing, empty or protected file.
        UnknownNameError: If it is neither a file nor a known name; the known ones are listed.
        CheckpointError: If the named potential is not part of this installation.
    """
    path = Path(name_or_path).expanduser()
    name = str(name_or_path)
    if path.is_file() or path.suffix or os.sep in name:
        return require_readable(path)
    if name not in EMBEDDED:
        raise unknown_name("potential", name, EMBEDDED)
    if not EMBEDDED[name].is_file():
        raise CheckpointError(
            f"The potential {name!r} is not part of this installation "
            f"({str(EMBEDDED[name])!r} is missing)",
            fix="Reinstall adatom, or give the path of a checkpoint file.",
        )
    return EMBEDDED[name]
