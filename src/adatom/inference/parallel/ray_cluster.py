"""The Ray cluster that workers run on: found, or started on this machine."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from adatom.core.errors import ConfigError, MissingExtraError
from adatom.inference.parallel.guardian import MARK, Guardian
from adatom.inference.parallel.ray_address import LOCAL, find_cluster

#: What a cluster started here counts workers with: its cores are shared without booking.
SLOT = "adatom_worker"
_SLOTS = 100_000
#: The workers of such a cluster are all on this machine and talk over its loopback.
LOOPBACK = "127.0.0.1"
#: Ray's sockets lie in its folder, and their paths may have 107 characters.
_LONGEST_FOLDER = 30
_PREFIX = "adatom-ray-"
#: Bytes for arrays on their way between processes of one node.
_OBJECT_STORE = 512 * 2**20


def require_ray() -> Any:
    """Return Ray.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    return ray


class _Shared:
    """The connection that the units of this process share.

    Attributes:
        users: How many units hold it.
        ours: Whether it ends with the last of them; a connection of the caller's never does.
        guardian: Of the cluster that was started here, or None.
    """

    def __init__(self, *, ours: bool, guardian: Guardian | None = None) -> None:
        self.users = 0
        self.ours = ours
        self.guardian = guardian


_lock = threading.RLock()
_shared: _Shared | None = None


def acquire(address: str | None = None) -> bool:
    """Connect this process to a cluster, once for all units.

    A connection that exists already is used; else the cluster that
    :func:`adatom.inference.parallel.ray_address.find_cluster` finds; else one is started here,
    without usage statistics, in a temporary folder; from Ray 2.60 on only who has the user's token
    (``~/.ray/auth_token``) can send work to it.

    Args:
        address: Of a cluster; ``"local"`` starts one in any case.

    Returns:
        Whether the cluster was started by this process, for adatom only.

    Raises:
        MissingExtraError: If Ray is not installed.
        ConfigError: If there is no cluster at the address.
    """
    global _shared  # noqa: PLW0603 (Ray itself is one per process)
    ray = require_ray()
    with _lock:
        if _shared is None or not ray.is_initialized():
            _shared = _connect(ray, address)
        _shared.users += 1
        return _shared.guardian is not None


def release() -> None:
    """Give a connection back; what this process started ends with the last user."""
    global _shared
    with _lock:
        if _shared is None:
            return
        _shared.users -= 1
        if _shared.users > 0:
            return
        last, _shared = _shared, None
        if last.ours:
            # Another cluster counts its workers from the beginning again. A handle that is
            # collected only then would give up a worker of that one with the same number.
            gc.collect()
            require_ray().shutdown()
        if last.guardian is not None:
            last.guardian.finish()


def _connect(ray: Any, address: str | None) -> _Shared:
    if ray.is_initialized():
        return _Shared(ours=False)
    found = find_cluster(address)
    if found is not None:
        try:
            with _quiet():
                ray.init(address=found, log_to_driver=False, configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"The Ray cluster at {found!r} cannot be used: {reason}",
                fix="Set RAY_ADDRESS to another one, or to 'local' to start one for this run.",
            ) from error
        return _Shared(ours=True)
    folder = _folder()
    guardian = Guardian(folder)
    try:
        with _quiet(folder):
            ray.init(
                address=LOCAL,
                num_cpus=0,
                resources={SLOT: _SLOTS},
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                object_store_memory=_OBJECT_STORE,
                _temp_dir=str(folder),
            )
    except BaseException:
        guardian.finish()
        raise
    return _Shared(ours=True, guardian=guardian)


def _folder() -> Path:
    """Return a new folder with a short path; those of processes that were killed are removed."""
    base = Path(tempfile.gettempdir())
    if len(str(base)) > _LONGEST_FOLDER:
        base = Path("/tmp")  # noqa: S108 (mkdtemp makes a private folder in it)
    for old in base.glob(f"{_PREFIX}*"):
        with suppress(OSError, ValueError):
            if old.stat().st_uid == os.getuid() and not _is_alive(int(old.name.split("-")[2])):
                shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _quiet(folder: Path | None = None) -> Iterator[None]:
    """Start Ray without usage reports and notices; the environment is as before afterwards.

    What it starts is marked with the folder. Only ``RAY_AUTH_MODE``, which Ray sets from version
    2.60 on, stays: a later cluster of this process that did not see it would ask for no token,
    while this process goes on to send one, and its workers would be given up.
    """
    wanted = {
        "RAY_USAGE_STATS_ENABLED": "0",
        # On a busy machine importing torch takes longer than the minute that Ray grants.
        "RAY_worker_register_timeout_seconds": "300",
        # Workers do what the user waits for. Ray would let all other programs go first.
        "RAY_worker_niceness": "0",
        # Else titles of Ray's agents are written over their environment, and the mark with it.
        "SPT_NOENV": "1",
        MARK: str(folder or ""),
    }
    before = {name: os.environ.get(name) for name in (*wanted, "RAY_ADDRESS")}
    os.environ.update(wanted)
    # The address is chosen already.
    os.environ.pop("RAY_ADDRESS", None)
    notices = logging.getLogger("ray")
    level = notices.level
    notices.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Announcements of Ray's own future.
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        notices.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
