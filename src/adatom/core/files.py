"""Files: checks before any work, writes that are whole or absent, fingerprints."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adatom.core.errors import FileAccessError, did_you_mean

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def require_readable(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` if it is a non-empty file that can be read.

    Raises:
        FileAccessError: Missing (with the nearest name beside it), a folder, empty or protected.
    """
    file = Path(path).expanduser()
    if not file.exists():
        hint = did_you_mean(file.name, _names_in(file.parent))
        raise FileAccessError(f"The file {str(path)!r} does not exist{hint}")
    if file.is_dir():
        raise FileAccessError(f"{str(path)!r} is a folder", expected="a file")
    if not os.access(file, os.R_OK):
        raise FileAccessError(
            f"The file {str(path)!r} cannot be read", fix="Check its permissions."
        )
    if file.is_file() and file.stat().st_size == 0:
        raise FileAccessError(f"The file {str(path)!r} is empty")
    return file


def require_writable(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` if a file can be written there; folders on the way may be missing.

    Raises:
        FileAccessError: If it is a folder, a protected file, or lies where nothing can be made.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise FileAccessError(f"The output {str(path)!r} is a folder", expected="a file name")
    if file.exists() and not os.access(file, os.W_OK):
        raise FileAccessError(
            f"The output {str(path)!r} is write-protected", fix="Choose another name."
        )
    folder = file.absolute().parent
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FileAccessError(
            f"The output {str(path)!r} cannot be written: {folder} gives "
            f"{(error.strerror or str(error)).lower()!r}",
            fix="Choose another folder.",
        ) from error
    return file


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file so that ``path`` is either the old one or the complete new one.

    Missing folders are made. After an error the temporary file is removed.

    Args:
        path: Where the file shall be.

    Yields:
        A temporary name beside it, with the same suffix, to be written by the caller.

    Raises:
        FileAccessError: If the place cannot be written, the disk is full, or nothing was written.
    """
    file = require_writable(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.stem}.{secrets.token_hex(4)}{file.suffix}")
    # Some writers make files that only their owner can read; take what an ordinary file has here.
    part.touch()
    mode = part.stat().st_mode
    part.unlink()
    try:
        yield part
        if not part.exists():
            raise FileAccessError(f"Nothing was written for {str(path)!r}")
        part.chmod(mode)
        _flush(part)
        part.replace(file)
        _flush(file.parent)
    except OSError as error:
        if error.errno in _FULL:
            raise FileAccessError(
                f"{str(path)!r} cannot be written: {error.strerror}",
                fix="Free some space.",
            ) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits.

    Raises:
        FileAccessError: If the file cannot be read.
    """
    with require_readable(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Force a file or folder entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _names_in(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []
