"""The service as a Ray Serve deployment: replicas, health, and another potential under load."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from adatom.core.errors import AdatomError
from adatom.inference.serving.app import Service, build_app
from adatom.inference.serving.batcher import MAX_WAITING
from adatom.inference.serving.counters import Counters
from adatom.inference.serving.limits import Limits
from adatom.inference.serving.listener import Listener
from adatom.inference.serving.models import ServedModels

#: Of the application and of its deployment.
NAME = "adatom"
#: Seconds to wait for the numbers of all replicas.
_METRICS_SECONDS = 10.0
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
        threads: Of torch, in each replica.
        listen: Host and port where the replicas themselves listen, all on one machine; None
            leaves that to the proxies of Ray Serve.
    """

    settings: str = "default"
    device: str | None = None
    limits: Limits = field(default_factory=Limits)
    token: str | None = None
    max_waiting: int = MAX_WAITING
    threads: int = 1
    listen: tuple[str, int] | None = None


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
        torch.set_num_threads(options.threads)  # of this process, which is a replica and no more
        self._options = options
        self._counters = Counters()
        self._models = ServedModels(self._counters, max_waiting=options.max_waiting)
        self._loaded: dict[str, Any] = {}
        self._name = _replica_name()
        self._listener: Listener | None = None

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Load the potentials; called by Serve at the start.

        Args:
            config: ``models``, as for :func:`application`.

        Raises:
            AdatomError: If one cannot be loaded.
        """
        for name, source in config["models"].items():
            await asyncio.to_thread(self._load, name, source)
        service = Service(
            self._models,
            self._counters,
            self._options.limits,
            token=self._options.token,
            metrics=self._all_metrics,
        )
        app = build_app(service)
        if self._options.listen is None:
            self.app.app = app
        else:
            host, port = self._options.listen
            self._listener = Listener(app, host, port, drain=DRAIN_SECONDS)

    async def drain(self) -> None:
        """Accept nothing more, and return when everything that was accepted is answered."""
        if self._listener is not None:
            await asyncio.to_thread(self._listener.close)

    async def reload(self, models: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        """Replace potentials whose files changed, while requests go on.

        If a new one cannot be loaded, the old one stays.

        Args:
            models: As for :func:`application`.

        Returns:
            Why potentials were not replaced, by name.
        """
        failed = {}
        for name, source in models.items():
            if self._loaded.get(name) == source:
                continue
            try:
                await asyncio.to_thread(self._load, name, source)
            except (AdatomError, OSError) as error:
                self._counters.add("failed_swaps", model=name)
                failed[name] = str(error)
        return failed

    async def metrics(self) -> str:
        """Return the numbers of this replica."""
        return self._counters.text(replica=self._name)

    async def check_health(self) -> None:
        """Tell Serve that the process has to be replaced, by an error.

        Raises:
            RuntimeError: If a potential does not compute any more, or nobody listens.
        """
        if not self._models.alive:
            raise RuntimeError("A batcher ended by an error of its own")
        if self._listener is not None and not self._listener.alive:
            raise RuntimeError("The HTTP server ended")

    async def _all_metrics(self) -> list[str]:
        from ray import serve

        answer = serve.get_deployment_handle(NAME, NAME).broadcast("metrics")
        texts: list[str] = await answer.results_async(timeout_s=_METRICS_SECONDS)
        return texts

    def _load(self, name: str, source: Mapping[str, str]) -> None:
        from adatom.inference.pretrained_mlip import get_predict_unit

        unit = get_predict_unit(
            source["checkpoint"], self._options.settings, device=self._options.device
        )
        self._models.put(name, unit)
        self._loaded[name] = dict(source)


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
        name=NAME,
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
