"""The service as an ASGI application: HTTP and JSON in front of the batchers."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from adatom.core.errors import AdatomError, DataError, MissingExtraError
from adatom.inference.prediction import Prediction
from adatom.inference.serving.counters import Counters, merged
from adatom.inference.serving.intake import Accepted, Intake, Refusal
from adatom.inference.serving.limits import Limits
from adatom.inference.serving.models import ServedModels
from adatom.inference.serving.openapi import openapi
from adatom.inference.serving.wire import encode, error_json, prediction_json

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

_log = logging.getLogger(__name__)
#: Larger requests are read in a thread of their own, so that the others go on meanwhile.
_LARGE_BODY = 2**17
_JSON = "application/json"


class Service:
    """Answers requests.

    Args:
        models: Compute.
        counters: Numbers for monitoring.
        limits: Of one request.
        token: What clients have to know; None lets everybody in.
        metrics: Returns the numbers of all replicas, if there are others besides this one.

    Attributes:
        models: Compute.
        counters: Numbers for monitoring.
        intake: Checks requests.
        limits: Of one request.
    """

    def __init__(
        self,
        models: ServedModels,
        counters: Counters,
        limits: Limits,
        *,
        token: str | None = None,
        metrics: Callable[[], Awaitable[list[str]]] | None = None,
    ) -> None:
        self.models = models
        self.counters = counters
        self.limits = limits
        self.intake = Intake(models, counters, limits)
        self._token = token
        self._metrics = metrics

    async def predict(self, request: Request) -> Response:
        """Answer ``POST /v1/predict``."""
        self._authorize(request)
        if request.headers.get("content-type", "").partition(";")[0].strip() != _JSON:
            raise Refusal(415, DataError("The content type is not JSON", expected=_JSON))
        body = await self._body(request)
        if len(body) > _LARGE_BODY:
            work = await asyncio.to_thread(self.intake.accept, body)
        else:
            work = self.intake.accept(body)
        results = await self._results(request, work)
        answer = {"model": work.model.name, "version": work.model.version, "results": results}
        return _json(answer)

    async def list_models(self, request: Request) -> Response:
        """Answer ``GET /v1/models``."""
        self._authorize(request)
        return _json({"models": [model.describe() for model in self.models]})

    async def health(self, request: Request) -> Response:
        """Answer ``GET /health``."""
        del request
        state = "draining" if self.intake.draining else "ok" if self.models.alive else "failed"
        return _json({"status": state}, 200 if state == "ok" else 503)

    async def metrics(self, request: Request) -> Response:
        """Answer ``GET /metrics``."""
        from starlette.responses import Response

        self._authorize(request)
        texts = [self.counters.text()] if self._metrics is None else await self._metrics()
        return Response(merged(texts), media_type="text/plain; version=0.0.4")

    async def schema(self, request: Request) -> Response:
        """Answer ``GET /openapi.json``."""
        self._authorize(request)
        return _json(openapi(self.limits))

    def _authorize(self, request: Request) -> None:
        if self._token is None:
            return
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self._token.encode())
        if kind.lower() != "bearer" or not right:
            raise Refusal(
                401,
                DataError(
                    "The token is missing or wrong",
                    expected="the header 'Authorization: Bearer TOKEN'",
                ),
                {"WWW-Authenticate": "Bearer"},
            )

    async def _body(self, request: Request) -> bytes:
        most = self.limits.max_body
        declared = request.headers.get("content-length", "0")
        body = bytearray()
        if not declared.isdigit() or int(declared) <= most:
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    break
            else:
                return bytes(body)
        raise Refusal(
            413,
            DataError(
                f"The request is larger than {self.limits.max_body_mb:g} MB",
                fix="Send fewer structures at once.",
            ),
        )

    async def _results(self, request: Request, work: Accepted) -> list[dict[str, Any]]:
        """Wait for all, or until the client is gone: what it asked for is cancelled then."""
        futures = [asyncio.wrap_future(future) for future in work.futures]
        waiting = asyncio.ensure_future(asyncio.wait(futures))
        gone = asyncio.ensure_future(_disconnected(request))
        either: set[asyncio.Future[Any]] = {waiting, gone}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise _ClientGone
            outcomes = [future.exception() or future.result() for future in futures]
        finally:
            if not waiting.done():
                self.counters.add("disconnected")
            waiting.cancel()
            gone.cancel()
            for future in futures:
                if not future.cancel() and not future.cancelled():
                    # An error that nobody looks at would be reported as a defect.
                    future.exception()
        return [_result(name, outcome) for name, outcome in zip(work.ids, outcomes, strict=True)]


class _ClientGone(Exception):  # noqa: N818 (nobody's mistake)
    """There is nobody to answer any more."""


def build_app(service: Service) -> Starlette:
    """Return the ASGI application of a service.

    Raises:
        MissingExtraError: If Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.routing import Route
    except ImportError as error:
        raise MissingExtraError("starlette", "ray") from error
    routes = {
        "/v1/predict": (service.predict, "POST"),
        "/v1/models": (service.list_models, "GET"),
        "/health": (service.health, "GET"),
        "/metrics": (service.metrics, "GET"),
        "/openapi.json": (service.schema, "GET"),
    }
    return Starlette(
        routes=[
            Route(path, _answering(service, path, answer), methods=[method])
            for path, (answer, method) in routes.items()
        ]
    )


def _answering(
    service: Service, path: str, answer: Callable[[Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """Turn refusals into answers, and count."""

    async def endpoint(request: Request) -> Response:
        from starlette.requests import ClientDisconnect
        from starlette.responses import Response

        try:
            response = await answer(request)
        except Refusal as refusal:
            response = _json({"error": error_json(refusal.error)}, refusal.status)
            response.headers.update(refusal.headers)
        except (_ClientGone, ClientDisconnect):
            # Nobody reads it.
            response = Response(status_code=499)
        except Exception as error:  # noqa: BLE001 (the connection is to be answered)
            _log.exception("A request failed")
            response = _json({"error": error_json(error)}, 500)
        service.counters.add("http_requests", route=path, status=str(response.status_code))
        return response

    return endpoint


def _result(name: str, outcome: Prediction | BaseException) -> dict[str, Any]:
    if isinstance(outcome, Prediction):
        try:
            return prediction_json(outcome)
        except AdatomError as error:
            outcome = error
    if not isinstance(outcome, AdatomError):
        _log.error("A structure failed", exc_info=outcome)
    return {"id": name, "error": error_json(outcome)}


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(value: dict[str, Any], status: int = 200) -> Response:
    from starlette.responses import Response

    return Response(encode(value), status_code=status, media_type=_JSON)
