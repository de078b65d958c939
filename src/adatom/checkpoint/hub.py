"""Download published files once, and say in one sentence what to do where that fails."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from adatom.core.console import say
from adatom.core.errors import AdatomError, CheckpointError, FileAccessError
from adatom.core.files import sha256_of

_SHA256 = re.compile(r"[0-9a-f]{64}")
_BY_HAND = "Or download the file by hand and give its path."
_FULL = {errno.ENOSPC, errno.EDQUOT}


def cache_folders(cache_dir: str | os.PathLike[str] | None = None) -> list[Path]:
    """Return the folders where downloaded files may be; the first is where new ones go.

    Args:
        cache_dir: The only folder. None means ``$ADATOM_CACHE_DIR/hub``, ``$FAIRCHEM_CACHE_DIR``
            or, if neither is set, the cache of huggingface_hub and ``~/.cache/fairchem``.
    """
    if cache_dir is not None:
        return [Path(cache_dir).expanduser()]
    chosen = []
    if os.environ.get("ADATOM_CACHE_DIR"):
        chosen.append(Path(os.environ["ADATOM_CACHE_DIR"]).expanduser() / "hub")
    if os.environ.get("FAIRCHEM_CACHE_DIR"):
        chosen.append(Path(os.environ["FAIRCHEM_CACHE_DIR"]).expanduser())
    if chosen:
        return chosen
    from huggingface_hub import constants

    return [Path(constants.HF_HUB_CACHE), Path("~/.cache/fairchem").expanduser()]


def find_cached(
    repo_id: str,
    filename: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Path | None:
    """Return the file if it was downloaded before, without asking the network.

    Args:
        repo_id: Repository on the hub.
        filename: Path in the repository.
        revision: Branch, tag or commit.
        cache_dir: See :func:`cache_folders`.
    """
    from huggingface_hub import try_to_load_from_cache

    for folder in cache_folders(cache_dir):
        found = try_to_load_from_cache(repo_id, filename, cache_dir=folder, revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None


def fetch(
    repo_id: str,
    filename: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Path:
    """Return the local copy of a file of the hub; download it if there is none.

    A download that was interrupted goes on where it stopped. Large files are compared with the
    checksum that the hub gives.

    Args:
        repo_id: Repository on the hub.
        filename: Path in the repository.
        revision: Branch, tag or commit; None means the newest.
        cache_dir: See :func:`cache_folders`.
        local_files_only: Do not use the network (as ``HF_HUB_OFFLINE=1``).

    Raises:
        FileAccessError: If it cannot be had; the message says why and what to do.
        CheckpointError: If the downloaded file does not match its checksum.
    """
    cached = find_cached(repo_id, filename, revision=revision, cache_dir=cache_dir)
    if cached is not None:
        return cached
    folder = cache_folders(cache_dir)[0]
    try:
        return _download(repo_id, filename, revision, folder, local_files_only=local_files_only)
    except AdatomError:
        raise
    # The client's HTTP library, and so its exceptions, differ between versions.
    except Exception as error:
        raise explain(error, repo_id, filename, folder, offline=local_files_only) from error


def _download(
    repo_id: str, filename: str, revision: str | None, folder: Path, *, local_files_only: bool
) -> Path:
    from huggingface_hub import constants, hf_hub_download

    if not (local_files_only or constants.HF_HUB_OFFLINE):
        say(f"Downloading {filename} of {repo_id} to {folder}")
    path = Path(
        hf_hub_download(
            repo_id,
            filename,
            revision=revision,
            cache_dir=folder,
            local_files_only=local_files_only,
        )
    )
    # Large files are stored under their SHA-256.
    blob = path.resolve()
    if _SHA256.fullmatch(blob.name) and sha256_of(blob) != blob.name:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise CheckpointError(
            f"The downloaded {filename} of {repo_id} does not match its SHA-256, so it was removed",
            fix="Download it again.",
        )
    return path


def explain(
    error: Exception, repo_id: str, filename: str, folder: Path, *, offline: bool
) -> FileAccessError:
    """Return the error that says what happened and what to do.

    Args:
        error: What the client raised.
        repo_id: Repository on the hub.
        filename: Path in the repository.
        folder: Where the file was to be stored.
        offline: Whether the caller forbade the network.
    """
    what = f"{filename} of {repo_id}"
    known = (
        _unreachable(error, what, folder, offline=offline)
        or _refused(error, what, repo_id)
        or _unwritable(error, what, folder)
    )
    if known is not None:
        return known
    reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return FileAccessError(
        f"{what} cannot be downloaded: {reason}",
        fix=f"Try again; what has arrived is kept. {_BY_HAND}",
    )


def _unreachable(
    error: Exception, what: str, folder: Path, *, offline: bool
) -> FileAccessError | None:
    from huggingface_hub import constants, errors

    if not isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        return None
    if offline or constants.HF_HUB_OFFLINE:
        reason = "downloads are forbidden here" if offline else "HF_HUB_OFFLINE is set"
        return FileAccessError(
            f"{what} is not in {str(folder)!r}, and {reason}",
            fix=f"Download it once with a network. {_BY_HAND}",
        )
    return FileAccessError(
        f"{what} cannot be downloaded: {_host()} cannot be reached",
        fix=f"Check the network and proxy settings. {_BY_HAND}",
    )


def _refused(error: Exception, what: str, repo_id: str) -> FileAccessError | None:
    from huggingface_hub import errors, get_token

    page = f"https://huggingface.co/{repo_id}"
    if isinstance(error, errors.EntryNotFoundError | errors.RevisionNotFoundError):
        return FileAccessError(
            f"There is no {what} on {_host()} any more: it was renamed or withdrawn",
            fix="Update adatom, or give the path of a file.",
        )
    if not isinstance(error, errors.RepositoryNotFoundError) and _status(error) not in (401, 403):
        return None
    if get_token() is None:
        return FileAccessError(
            f"{what} needs an account on huggingface.co, and there is no token on this machine",
            fix=f"Ask for access on {page}, then run 'hf auth login' or set HF_TOKEN.",
        )
    return FileAccessError(
        f"The token on this machine gives no access to {what}",
        fix=f"Ask for access on {page} with the account of the token, wait until it is granted, "
        "and check that the token is valid and may read gated repositories.",
    )


def _unwritable(error: Exception, what: str, folder: Path) -> FileAccessError | None:
    if isinstance(error, OSError) and error.errno in _FULL:
        return FileAccessError(
            f"{what} does not fit on the disk of {str(folder)!r}",
            fix="Free some space, or set ADATOM_CACHE_DIR to another folder.",
        )
    if isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
        return FileAccessError(
            f"{what} cannot be stored in {str(folder)!r}: {error.strerror}",
            fix="Set ADATOM_CACHE_DIR to a folder that you can write to.",
        )
    return None


def _status(error: Exception) -> int | None:
    """Return the HTTP status that an error reports, if any."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _host() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT).partition("://")[2]
