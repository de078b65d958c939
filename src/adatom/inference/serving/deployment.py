"""The service as a Ray Serve deployment: replicas, health, and another potential under load."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adatom.core.errors import AdatomError
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.inference.serving.app import Service, build_app
from adatom.inference.serving.batcher import MAX_WAITING
from adatom.inference.serving.counters import Counters
from adatom.inference.serving.limits import Limits
from adatom.inference.serving.models import ServedModels

_log = logging.getLogger(__name__)
#: Seconds that a replica may take for what it has accepted, when it is told to end.
DRAIN_SECONDS = 50.0
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """What all replicas have in common.

    Attributes:
        settings: Preset of inference settings.
        device: Where to compute; None takes a GPU where there is one.
        limits: Of one request.
        token: What clients have to know, or None.
        max_waiting: Structures that may wait in each replica, for each potential.
    """

    settings: str = "default"
    device: str | None = None
    limits: Limits = field(default_factory=Limits)
    token: str | None = None
    max_waiting: int = MAX_WAITING


class Ingress:
    """An ASGI application that is told later what it stands for: Serve makes it first."""

    def __init__(self) -> None:
        self.app: Callable[[Scope, Receive, Send], Awaitable[None]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a connection on."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif self.app is not None:
            await self.app(scope, receive, send)


class Replica:
    """One process with a copy of every potential.

    Args:
        options: What all replicas have in common.
    """

    app: Ingress

    def __init__(self, options: ServiceOptions) -> None:
        self._options = options
        self._counters = Counters()
        self._models = ServedModels(self._counters, max_waiting=options.max_waiting)
        self._service: Service | None = None
        self._loaded: dict[str, Any] = {}

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Load potentials; called by Serve at the start and when the configuration changes.

        A potential that is already there is replaced while requests go on. If the new one cannot
        be loaded, the old one stays.

        Args:
            config: ``models``, from names to a checkpoint and the generation of its file.
        """
        first = self._service is None
        for name, source in config["models"].items():
            if self._loaded.get(name) == source:
                continue
            try:
                await asyncio.to_thread(self._load, name, source["checkpoint"])
            except (AdatomError, OSError):
                if first:
                    raise
                self._counters.add("failed_swaps", model=name)
                _log.exception("The potential %r was not replaced", name)
            else:
                self._loaded[name] = source
        if first:
            self._service = Service(
                self._models,
                self._counters,
                self._options.limits,
                token=self._options.token,
                replica=_replica_name(),
            )
            self.app.app = build_app(self._service)

    async def check_health(self) -> None:
        """Tell Serve that the process has to be replaced, by an error.

        Raises:
            RuntimeError: If a potential does not compute any more.
        """
        if not self._models.alive:
            raise RuntimeError("A batcher ended by an error of its own")

    def _load(self, name: str, checkpoint: str) -> None:
        from adatom.inference.pretrained_mlip import get_predict_unit

        unit: MLIPPredictUnit = get_predict_unit(
            checkpoint, self._options.settings, device=self._options.device
        )
        self._models.put(name, unit)


def application(
    options: ServiceOptions,
    models: Mapping[str, Mapping[str, Any]],
    *,
    replicas: int,
    cpus: float,
    gpus: float,
) -> Any:
    """Return what ``ray.serve.run`` takes.

    Args:
        options: What all replicas have in common.
        models: From names to ``checkpoint`` (name or path, absolute) and ``generation``, which
            changes with the file.
        replicas: Processes.
        cpus: Cores that Ray books for each.
        gpus: GPUs that Ray books for each.
    """
    from ray import serve

    deployment: Any = serve.deployment(
        serve.ingress(Ingress())(Replica),
        name="adatom",
        num_replicas=replicas,
        # The batchers bound what waits, and answer what is too much with a reason.
        max_ongoing_requests=2 * options.max_waiting,
        max_queued_requests=2 * options.max_waiting,
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        health_check_period_s=5,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        user_config={"models": {name: dict(source) for name, source in models.items()}},
    )
    return deployment.bind(options)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def _replica_name() -> str:
    from ray import serve

    return str(serve.get_replica_context().replica_tag)
