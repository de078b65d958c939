"""HTTP straight into the process that computes, without a proxy in between."""

from __future__ import annotations

import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

from adatom.inference.serving.errors import ServiceError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from uvicorn import Server

#: Connections that may wait until they are accepted.
_BACKLOG = 2048
_START_SECONDS = 60.0
#: Linux spreads connections evenly over processes that listen at one address; others do not.
SPREADS = sys.platform == "linux"


class Listener:
    """An HTTP server in a thread of its own, at an address that several processes share.

    The operating system gives each new connection to one of them. A request that comes through
    the proxy of Ray Serve instead is read, handed on and answered in three processes, which costs
    about 4 ms of processor time.

    Args:
        app: Answers.
        host: Address to listen on.
        port: To listen on.
        drain: Seconds that requests may still take when it ends.

    Raises:
        ServiceError: If the address cannot be listened on.
    """

    def __init__(self, app: Starlette, host: str, port: int, *, drain: float) -> None:
        import uvicorn

        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=int(drain),
        )
        # Its thread is not the main one: it leaves the signals of the process alone.
        self._server: Server = uvicorn.Server(config)
        shared = _shared_socket(host, port)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [shared]}, name="listener", daemon=True
        )
        self._thread.start()
        self._wait_until_started()

    @property
    def alive(self) -> bool:
        """Whether requests are accepted."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Accept nothing more, answer what was accepted, and end."""
        self._server.should_exit = True
        self._thread.join()

    def _wait_until_started(self) -> None:
        until = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                raise ServiceError("The HTTP server did not start", fix="See the log of Ray Serve.")
            time.sleep(0.005)


def _shared_socket(host: str, port: int) -> socket.socket:
    """Return a socket at an address where other processes of this user listen, too."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    shared = socket.socket(family, socket.SOCK_STREAM)
    try:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind((host, port))
        shared.listen(_BACKLOG)
    except OSError as error:
        shared.close()
        raise ServiceError(
            f"Nothing can listen on {host}:{port}: {(error.strerror or str(error)).lower()}",
            fix="Choose another --port or --host.",
        ) from error
    return shared
