"""The client of the batching service: HTTP and JSON from the standard library."""

from __future__ import annotations

import http.client
import os
import random
import ssl
import threading
import time
import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson
import torch

from adatom.core import errors
from adatom.core.errors import AdatomError, ConfigError, unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.inference.prediction import Prediction
from adatom.inference.serving.errors import ServiceError
from adatom.inference.serving.wire import encode, prediction_from_json, structure_json

#: Name of the environment variable with the token.
TOKEN = "ADATOM_TOKEN"  # noqa: S105 (a name)
#: Seconds before the second attempt; doubled each time, up to the last number.
_FIRST_DELAY, _LONGEST_DELAY = 0.2, 15.0
_SCHEMES = ("http", "https")
_GONE = (http.client.HTTPException, ConnectionError)


class ServiceClient:
    """Asks a batching service; threads may share it.

    Connections are kept open, one per thread. A service that is full, or was restarted a moment
    ago, is asked again after a while.

    Args:
        url: Such as ``"http://127.0.0.1:8000"``.
        token: What the service wants to know; None takes the environment's ``ADATOM_TOKEN``.
        timeout: Seconds to wait for one answer.
        patience: Seconds to try again, in all, while the service is full or cannot be reached.

    Raises:
        ConfigError: If the URL or a number cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 600.0,
        patience: float = 120.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise ConfigError(f"The URL is {url!r}", expected="one like 'http://127.0.0.1:8000'")
        if not timeout > 0 or not patience >= 0:
            raise ConfigError(
                f"timeout is {timeout!r} and patience {patience!r}", expected="seconds"
            )
        self.url = url.rstrip("/")
        self._scheme, self._path = parts.scheme, parts.path.rstrip("/")
        self._address = (parts.hostname, parts.port)
        self._token = os.environ.get(TOKEN) if token is None else token
        self._timeout = timeout
        self._patience = patience
        self._own = threading.local()

    def models(self) -> list[dict[str, Any]]:
        """Return what the service says of its models.

        Raises:
            ServiceError: If it cannot be reached, or refuses.
        """
        found: list[dict[str, Any]] = self._ask("GET", "/v1/models", None)["models"]
        return found

    def model(self, name: str | None = None) -> dict[str, Any]:
        """Return what the service says of one model.

        Args:
            name: None means the only one.

        Raises:
            UnknownNameError: If there is none of that name.
            ConfigError: If None is given and there are several.
        """
        known = {str(model["name"]): model for model in self.models()}
        if name is None:
            if len(known) == 1:
                return next(iter(known.values()))
            raise ConfigError(
                "The service has several models and none was chosen",
                expected=f"one of: {', '.join(sorted(known))}",
            )
        if name not in known:
            raise unknown_name("model", name, known)
        return known[name]

    def predict(
        self,
        systems: Sequence[AtomicData],
        properties: Collection[str] | None,
        model: Mapping[str, Any],
        *,
        any_version: bool = False,
    ) -> list[Prediction | AdatomError]:
        """Ask for structures.

        Args:
            systems: Single systems.
            properties: Names, or None for the defaults.
            model: Of :meth:`model`.
            any_version: Take the answer of a model that replaced this one, too.

        Returns:
            A prediction or an error per structure.

        Raises:
            AdatomError: If the request as a whole is refused.
            ServiceError: If the service cannot be reached, or is full all the time.
        """
        body = {
            "structures": [structure_json(system) for system in systems],
            "model": model["name"],
        }
        if properties is not None:
            body["properties"] = list(properties)
        if not any_version:
            body["version"] = model["version"]
        answer = self._ask("POST", "/v1/predict", encode(body))
        dtype: torch.dtype = getattr(torch, model["dtype"])
        return [
            error_from_json(result["error"])
            if "error" in result
            else prediction_from_json(result, system.num_atoms, dtype)
            for result, system in zip(answer["results"], systems, strict=True)
        ]

    def close(self) -> None:
        """Close the connection of this thread."""
        held = self._own.__dict__.pop("held", None)
        if held is not None:
            held.connection.close()

    def _ask(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        until = time.monotonic() + self._patience
        delay = _FIRST_DELAY
        while True:
            wait = 0.0
            try:
                status, headers, text = self._exchange(method, path, body)
            except TimeoutError as error:
                raise ServiceError(
                    f"The service at {self.url} did not answer within {self._timeout:g} s",
                    fix="Give a longer timeout, or smaller structures.",
                ) from error
            except (*_GONE, OSError) as error:
                failure: AdatomError = ServiceError(
                    f"The service at {self.url} cannot be reached: {error or type(error).__name__}",
                    fix="Is it running, and are host and port right?",
                )
                failure.__cause__ = error
            else:
                answer = _decoded(text, status, self.url)
                if status == http.client.OK:
                    return answer
                failure = _refusal(answer, status)
                if status != http.client.SERVICE_UNAVAILABLE:
                    raise failure
                wait = float(headers.get("Retry-After") or 0)
            # Not all clients come back at the same moment.
            wait = max(wait, delay) * random.uniform(0.5, 1.0)  # noqa: S311
            if time.monotonic() + wait > until:
                raise failure
            time.sleep(wait)
            delay = min(2 * delay, _LONGEST_DELAY)

    def _exchange(
        self, method: str, path: str, body: bytes | None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send one request; over a connection that the other side closed meanwhile, twice."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        while True:
            used = "held" in self._own.__dict__
            connection = self._connection()
            try:
                connection.request(method, self._path + path, body, headers)
                response = connection.getresponse()
                return response.status, response.headers, response.read()
            except _GONE:
                self.close()
                if not used:
                    raise
            except BaseException:
                # An answer that comes later must not be taken for that of the next request.
                self.close()
                raise

    def _connection(self) -> http.client.HTTPConnection:
        if "held" not in self._own.__dict__:
            host, port = self._address
            connection: http.client.HTTPConnection
            if self._scheme == "https":
                context = ssl.create_default_context()
                connection = http.client.HTTPSConnection(
                    host, port, timeout=self._timeout, context=context
                )
            else:
                connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
            self._own.held = _Held(connection)
        held: _Held = self._own.held
        return held.connection


class _Held:
    """A connection that is closed when its thread, or the client, is gone."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.connection = connection
        # Before anything of the connection itself ends, also where references go in a circle.
        weakref.finalize(self, connection.close)


def error_from_json(given: Mapping[str, Any]) -> AdatomError:
    """Return the error that a service tells of, in its own class where that is known here."""
    kind = getattr(errors, str(given.get("type")), None)
    if not (isinstance(kind, type) and issubclass(kind, AdatomError)):
        kind = ServiceError
    error: AdatomError = kind.__new__(kind)
    AdatomError.__init__(
        error,
        str(given.get("found") or given.get("message") or "The service told no reason"),
        expected=given.get("expected"),
        fix=given.get("fix"),
    )
    return error


def _refusal(answer: Mapping[str, Any], status: int) -> AdatomError:
    told = answer.get("error")
    if isinstance(told, Mapping):
        error = error_from_json(told)
        if status in (http.client.UNAUTHORIZED, http.client.SERVICE_UNAVAILABLE):
            return ServiceError(error.found, expected=error.expected, fix=error.fix)
        return error
    return ServiceError(f"The service answered with the status {status}")


def _decoded(text: bytes, status: int, url: str) -> dict[str, Any]:
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if status != http.client.OK:
            # A proxy in front of the service may answer in its own words.
            return {}
        raise ServiceError(
            f"What {url} answers is not JSON", expected="the address of an adatom service"
        ) from error
    return answer if isinstance(answer, dict) else {}
