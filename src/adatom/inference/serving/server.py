"""Starts and ends the service on Ray."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import signal
import threading
import time
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import Any, Self

import torch

from adatom.checkpoint.names import is_published, resolve_checkpoint
from adatom.core.console import say
from adatom.core.errors import AdatomError, ConfigError, MissingExtraError
from adatom.core.files import require_readable
from adatom.inference.parallel import ray_cluster
from adatom.inference.serving.access import is_any, require_free, require_safe
from adatom.inference.serving.deployment import NAME, ServiceOptions, application
from adatom.inference.serving.errors import ServiceError
from adatom.inference.serving.listener import SPREADS

#: Seconds that replicas may take to load and answer.
_START_SECONDS = 600.0
#: Serve gives up on a proxy after 5 s, and on its health after 10, unless these say otherwise.
_PATIENT = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "300",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
}


class Server:
    """A running service.

    Args:
        models: From names to checkpoints.
        options: What all replicas have in common.
        host: Address to listen on.
        port: To listen on.
        replicas: Processes, each with all models.
        cpus_per_replica: Processor cores and threads of each. None takes a fair share of torch's
            threads on a cluster that is started here, and 1 on any other.

    Raises:
        MissingExtraError: If Ray Serve is not installed.
        ConfigError: If the port is taken, other addresses than this machine's are to be reached
            without a token, or a number is wrong.
        AdatomError: If a checkpoint does not exist.
    """

    def __init__(
        self,
        models: Mapping[str, str],
        options: ServiceOptions,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        replicas: int = 1,
        cpus_per_replica: int | None = None,
    ) -> None:
        for name, count in (("replicas", replicas), ("cpus_per_replica", cpus_per_replica)):
            if count is not None and count < 1:
                raise ConfigError(f"{name} is {count}", expected="at least 1")
        require_safe(host, options.token)
        self._serve = require_serve()
        self._options = options
        self._sources = {name: _resolved(source) for name, source in models.items()}
        self._host, self._port, self._replicas = host, port, replicas
        self._cpus = cpus_per_replica
        require_free(host, port)
        self._own = False
        self._deployed = False

    @property
    def url(self) -> str:
        """Where the service is reached from this machine."""
        host = self._host if not is_any(self._host) else "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    @property
    def _direct(self) -> bool:
        """Whether the replicas listen themselves: all of them are on this machine."""
        return self._own and SPREADS

    def connect(self) -> None:
        """Connect to the Ray cluster at ``RAY_ADDRESS`` or on this machine, or start one.

        Raises:
            ConfigError: If there is no cluster at ``RAY_ADDRESS``, or one and no token.
        """
        # Serve tells every step; the user is told when it is done.
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        with _slow_starts():
            self._own = ray_cluster.acquire()
        if not self._own and self._options.token is None:
            ray_cluster.release()
            raise ConfigError(
                "On a Ray cluster that exists already, others may reach the service",
                expected="a token",
                fix="Give --token-file or ADATOM_TOKEN, or set RAY_ADDRESS=local to start a Ray "
                "on this machine only.",
            )

    def start(self) -> None:
        """Start the replicas; return when they answer. :meth:`connect` comes first.

        Raises:
            ServiceError: If they do not answer in time.
        """
        # On a busy machine the proxy may take longer than Serve waits for it; it is asked below.
        with suppress(TimeoutError):
            self._serve.start(
                proxy_location="Disabled" if self._direct else "HeadOnly",
                http_options={"host": self._host, "port": self._port},
            )
        self._deploy()
        until = time.monotonic() + _START_SECONDS
        while not is_serving(self.url):
            if time.monotonic() > until:
                raise ServiceError(
                    f"The service at {self.url} did not answer within {_START_SECONDS:g} s",
                    fix="The logs of Ray Serve, in Ray's session folder, say why.",
                )
            time.sleep(0.1)

    def reload(self) -> list[str]:
        """Load checkpoints whose files changed, in all replicas, while requests go on.

        Returns:
            Why potentials were not replaced, a sentence each; the old ones stay.
        """
        handle = self._serve.get_deployment_handle(NAME, NAME)
        failed: list[str] = []
        try:
            for answer in handle.broadcast("reload", self._models()).results():
                failed += [f"{name!r} was not replaced: {why}" for name, why in answer.items()]
        except (AdatomError, OSError) as error:
            failed.append(str(error))
        return sorted(set(failed))

    def stop(self) -> None:
        """Finish what was accepted, then end the replicas, and Ray if it was started here."""
        try:
            if self._deployed:
                if self._direct:
                    self._drain()
                # Waits for what was accepted, which a shutdown alone would do for 30 s only.
                with suppress(TimeoutError):
                    self._serve.delete(NAME)
        finally:
            ray_cluster.release()

    def _drain(self) -> None:
        """Let the replicas answer what they accepted: Serve does not know of it."""
        from ray.exceptions import RayError

        # A replica that is gone has nothing to answer.
        with suppress(RayError):
            self._serve.get_deployment_handle(NAME, NAME).broadcast("drain").results()

    def _deploy(self) -> None:
        gpu = (self._options.device or _default_device()).startswith("cuda")
        share = max(1, torch.get_num_threads() // self._replicas) if self._own else 1
        threads = share if self._cpus is None else self._cpus
        app = application(
            replace(
                self._options,
                threads=threads,
                listen=(self._host, self._port) if self._direct else None,
            ),
            self._models(),
            replicas=self._replicas,
            # A cluster that was started here has no cores to book.
            cpus=0 if self._own else threads,
            gpus=1 if gpu else 0,
        )
        self._deployed = True
        self._serve.run(app, name=NAME, route_prefix="/")

    def _models(self) -> dict[str, dict[str, str]]:
        return {
            name: {"checkpoint": source, "generation": _generation(source)}
            for name, source in self._sources.items()
        }


def run(server: Server, ready: str) -> None:
    """Serve until SIGTERM or Ctrl-C; SIGHUP loads checkpoints again whose files changed.

    Args:
        server: Not connected yet.
        ready: What to say when requests are answered.
    """
    signals = _Signals((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    with signals:
        server.connect()
        try:
            # Ray has put its own handlers in place.
            signals.install()
            server.start()
            say(ready)
            while signals.wait() == signal.SIGHUP:
                say("Loading the models whose files changed.")
                say("\n".join(server.reload()) or "Done.")
            say("Finishing what was accepted.")
        finally:
            signals.waited = True
            server.stop()
            say("Stopped.")


def require_serve() -> Any:
    """Return ``ray.serve``.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        with warnings.catch_warnings():
            # Of Ray's own use of its dependencies.
            warnings.simplefilter("ignore", DeprecationWarning)
            from ray import serve
    except ImportError as error:
        raise MissingExtraError("ray[serve]", "ray") from error
    return serve


class _Signals:
    """Collects signals once they are waited for; before that they end the program.

    Args:
        numbers: The signals.

    Attributes:
        waited: Whether signals are only noted.
    """

    def __init__(self, numbers: Sequence[signal.Signals]) -> None:
        self.waited = False
        self._numbers = numbers
        self._came: list[int] = []
        self._event = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in self._numbers}
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Take the signals over."""
        for number in self._numbers:
            signal.signal(number, self._note)

    def wait(self) -> int:
        """Return the next signal."""
        self.waited = True
        while not self._came:
            # Without a limit, a signal would not interrupt the wait on every system.
            self._event.wait(1.0)
        self._event.clear()
        return self._came.pop(0)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if not self.waited:
            raise SystemExit(128 + number)
        self._came.append(number)
        self._event.set()


@contextmanager
def _slow_starts() -> Iterator[None]:
    """Let Serve, in processes that are started now, be patient: importing torch takes a while."""
    before = {name: os.environ.get(name) for name in _PATIENT}
    for name, value in _PATIENT.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)


def is_serving(url: str) -> bool:
    """Return whether a service takes requests at an address such as ``http://127.0.0.1:8000``."""
    health = f"{url}/health"
    with suppress(OSError), urllib.request.urlopen(health, timeout=10) as answer:  # noqa: S310 (http)
        return bool(answer.status == http.client.OK)
    return False


def _resolved(source: str) -> str:
    """Return a name, or an absolute path, so that replicas find the file wherever they run."""
    path = require_readable(resolve_checkpoint(source))
    # Published tables are found by the name only.
    return source if is_published(source) else str(path.absolute())


def _generation(source: str) -> str:
    with resolve_checkpoint(source).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
