"""From what a user types to a file: a path, or the name of a potential."""

from __future__ import annotations

import os
from pathlib import Path

from adatom.checkpoint.hub import fetch
from adatom.checkpoint.published import PUBLISHED, is_withdrawn, published
from adatom.core.errors import CheckpointError, unknown_name
from adatom.core.files import require_readable

_PRETRAINED = Path(__file__).parent / "pretrained"

#: Potentials that come with the package, by name.
EMBEDDED = {"default": _PRETRAINED / "default.safetensors"}


def resolve_checkpoint(
    name_or_path: str | os.PathLike[str],
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Path:
    """Return the checkpoint file of a path or name; a local file goes before a name.

    Args:
        name_or_path: A file, the name of an embedded potential, or that of a published one, which
            is downloaded if it is not in the cache.
        cache_dir: Where downloaded files are; see :func:`adatom.checkpoint.hub.cache_folders`.
        local_files_only: Do not use the network.

    Raises:
        FileAccessError: If it is a path to a missing, empty or protected file, or a download
            fails.
        UnknownNameError: If it is neither a file nor a known name; the known ones are listed.
        CheckpointError: If the named potential is not part of this installation, or its download
            is damaged.
    """
    path = Path(name_or_path).expanduser()
    name = str(name_or_path)
    if path.is_file():
        return require_readable(path)
    if is_published(name) or is_withdrawn(name):
        where = published(name)
        return fetch(
            where.repo_id,
            where.filename,
            revision=where.revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
    if path.suffix or os.sep in name:
        return require_readable(path)
    if name not in EMBEDDED:
        raise unknown_name("potential", name, {*EMBEDDED, *PUBLISHED})
    if not EMBEDDED[name].is_file():
        raise CheckpointError(
            f"The potential {name!r} is not part of this installation "
            f"({str(EMBEDDED[name])!r} is missing)",
            fix="Reinstall adatom, or give the path of a checkpoint file.",
        )
    return EMBEDDED[name]


def is_published(name_or_path: str | os.PathLike[str]) -> bool:
    """Tell whether a name means a published potential and not a local file."""
    return str(name_or_path) in PUBLISHED and not Path(name_or_path).is_file()
