"""The workers of one unit: placed, started, called and ended together."""

from __future__ import annotations

import os
import sys
import threading
import warnings
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from adatom.core.errors import ConfigError, WorkerDiedError
from adatom.data.atomic_data import AtomicData
from adatom.inference.engine import InferenceWarning
from adatom.inference.parallel.calls import BrokenCallError, gather
from adatom.inference.parallel.pulse import Pulse
from adatom.inference.parallel.ray_cluster import LOOPBACK, SLOT, acquire, release, require_ray
from adatom.inference.parallel.transport import (
    Metadata,
    geometry_of,
    metadata_of,
    size_of,
    tensors_of,
)
from adatom.inference.parallel.worker import HEALTH, Place, Plan, Worker

#: How workers lie on nodes: as few as possible, as many as possible, or Ray's strict forms of both.
Placement = Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]
#: Bytes from which arrays go through the object store, once per node instead of once per worker.
_STORED = 2**16


@dataclass(frozen=True)
class Resources:
    """What the workers are given.

    Attributes:
        workers: How many.
        cpus: Cores of each; None takes one, or on a cluster started here a fair share.
        gpus: Whether each has a GPU.
        placement: Over the nodes.
        address: Of the cluster; None finds one or starts one.
        timeout: Seconds that starting may take.
        max_silence: Seconds for which a worker may answer no ping during a call.
    """

    workers: int
    cpus: int | None
    gpus: bool
    placement: Placement
    address: str | None
    timeout: float
    max_silence: float


class WorkerGroup:
    """Workers that compute together; threads may share it.

    Args:
        resources: What they are given.
        plan: What they prepare. With a path, which is read here and sent to other nodes.

    Attributes:
        places: Where the workers are, by rank; empty while there are none.

    Raises:
        ConfigError: If the cluster has not what is needed.
        AdatomError: If the potential cannot be prepared in the workers.
    """

    def __init__(self, resources: Resources, plan: Plan) -> None:
        self._resources = resources
        self._plan = plan
        self._lock = threading.RLock()
        self._fate: WorkerDiedError | None = None
        self._closed = False
        self._sent: tuple[str, Any] | None = None
        self.places: dict[int, Place] = {}
        self._local = acquire(resources.address)
        self._processes = _Processes()
        self._end = weakref.finalize(self, _finish, self._processes, os.getpid())
        try:
            self._start()
        except BaseException:
            self._end()
            raise

    @property
    def alive(self) -> bool:
        """Whether there are workers."""
        return bool(self._processes.actors)

    def predict(self, data: AtomicData, properties: Sequence[str]) -> dict[str, torch.Tensor]:
        """Let all workers compute one batch.

        Args:
            data: On the processor.
            properties: What to compute.

        Raises:
            WorkerDiedError: If a worker is gone or hangs; :meth:`restart` starts all again.
            AdatomError: What the workers fail with.
        """
        with self._lock:
            self._require_workers()
            metadata = metadata_of(data)
            geometry = geometry_of(data)
            # Positions of the last call need not be kept: the reference goes with this call.
            moved = self._stored(geometry, size_of(geometry))
            arguments = (metadata.fingerprint, self._reference(metadata), moved, tuple(properties))
            replies = self._call("predict", arguments, f"it computed {data.sid[0]!r}")
            if any(used != metadata.fingerprint for used, _ in replies):
                raise WorkerDiedError("A worker computed another structure than it was given")
            return tensors_of(replies[0][1])

    def statistics(self) -> list[dict[str, Any]]:
        """Return what each worker counted, by rank."""
        with self._lock:
            self._require_workers()
            return self._call("statistics", (), "it counted")

    def notes(self) -> dict[str, str]:
        """Return what the engines chose and why, by topic; all chose the same."""
        with self._lock:
            self._require_workers()
            notes: dict[str, str] = self._call("notes", (), "it explained itself")[0]
            return notes

    def restart(self) -> None:
        """End all workers and start them again, after one died or hangs.

        Raises:
            ConfigError: If the group was closed, or the cluster has not what is needed.
        """
        with self._lock:
            if self._closed:
                raise _closed()
            self._stop()
            self._fate = None
            self._start()

    def close(self) -> None:
        """End all workers; a cluster that was started for them ends too. May be called again."""
        with self._lock:
            self._closed = True
            self.places = {}
            self._sent = None
            self._end()

    def _require_workers(self) -> None:
        if self._closed:
            raise _closed()
        if self._fate is not None:
            # Not the same object: each raise adds to the traceback of its own.
            raise WorkerDiedError(self._fate.found, fix=self._fate.fix)
        if not self.alive:
            self._start()

    def _call(self, name: str, arguments: tuple[Any, ...], what: str) -> list[Any]:
        actors = self._processes.actors
        refs = [getattr(actor, name).remote(*arguments) for actor in actors]
        pulse = Pulse(self._processes.ping, self._resources.max_silence)
        return self._answers(refs, what, pulse=pulse)

    def _answers(
        self,
        refs: Sequence[Any],
        what: str,
        timeout: float | None = None,
        pulse: Pulse | None = None,
    ) -> list[Any]:
        try:
            replies = gather(refs, self.places, what, timeout=timeout, pulse=pulse)
        except BrokenCallError as broken:
            # None of them stays behind in a collective that never ends.
            self._stop()
            if broken.died and isinstance(broken.error, WorkerDiedError):
                self._fate = broken.error
            raise broken.error from None
        for message in dict.fromkeys(text for reply in replies for text in reply.warnings):
            warnings.warn(message, InferenceWarning, stacklevel=4)
        return [reply.value for reply in replies]

    def _start(self) -> None:
        size, timeout = self._resources.workers, self._resources.timeout
        self._processes.place(self._resources, local=self._local)
        refs = [actor.where.remote() for actor in self._processes.actors]
        self.places = dict(enumerate(self._answers(refs, "it started", timeout)))
        _require_one_version(self.places)
        first = self._processes.actors[0]
        address = self._answers([first.open_store.remote()], "it opened a port", timeout)[0]
        plan, contents = self._plan_for_nodes()
        actors = self._processes.actors
        refs = [actor.prepare.remote(plan, contents, address) for actor in actors]
        self.places = dict(enumerate(self._answers(refs, "it loaded the potential", timeout)))
        if len(self.places) != size:
            raise WorkerDiedError(f"{len(self.places)} of {size} workers started")

    def _plan_for_nodes(self) -> tuple[Plan, Any]:
        """Return the plan with the path on this machine, else with the file's contents."""
        plan = replace(self._plan, threads=self._threads())
        path = self._plan.path
        if self._local or path is None:
            return replace(plan, folders=tuple(filter(None, sys.path))), None
        contents = np.fromfile(path, dtype=np.uint8)
        return replace(plan, path=None, suffix=Path(path).suffix), require_ray().put(contents)

    def _threads(self) -> int:
        asked = self._plan.settings.torch_num_threads or self._resources.cpus
        if asked is not None:
            return asked
        return max(1, torch.get_num_threads() // self._resources.workers) if self._local else 1

    def _stop(self) -> None:
        self._processes.end()
        self.places = {}
        self._sent = None

    def _stored(self, value: Any, size: int) -> Any:
        return require_ray().put(value) if size >= _STORED else value

    def _reference(self, metadata: Metadata) -> Any:
        if self._sent is None or self._sent[0] != metadata.fingerprint:
            self._sent = metadata.fingerprint, self._stored(metadata, size_of(metadata.arrays))
        return self._sent[1]


class _Processes:
    """The actors and what they occupy; knows nothing of the unit, which may be collected first."""

    def __init__(self) -> None:
        self.actors: list[Any] = []
        self._places: Any = None

    def place(self, resources: Resources, *, local: bool) -> None:
        """Reserve resources and start the processes."""
        ray = require_ray()
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        size = resources.workers
        bundle: dict[str, float] = {SLOT: 1} if local else {"CPU": resources.cpus or 1}
        if resources.gpus:
            bundle["GPU"] = 1
        _require_resources(ray, bundle, size)
        self._places = placement_group([bundle] * size, strategy=resources.placement)
        if not self._places.wait(timeout_seconds=resources.timeout):
            self.end()
            raise _occupied(ray, bundle, resources)
        kind = ray.remote(concurrency_groups={HEALTH: 1})(Worker)
        needs = {name: value for name, value in bundle.items() if name == SLOT}
        self.actors = [
            kind.options(
                num_cpus=bundle.get("CPU", 0),
                num_gpus=bundle.get("GPU", 0),
                resources=needs,
                scheduling_strategy=PlacementGroupSchedulingStrategy(self._places, rank),
            ).remote(rank, size, LOOPBACK if local else None)
            for rank in range(size)
        ]

    def ping(self, rank: int) -> Any:
        """Return the promise of an answer, which does not wait for other calls."""
        return self.actors[rank].answer.options(concurrency_group=HEALTH).remote()

    def end(self) -> None:
        """End the processes, also those that hang, and give back what they occupied."""
        ray = require_ray()
        actors, self.actors = self.actors, []
        places, self._places = self._places, None
        if not ray.is_initialized():
            return
        for actor in actors:
            # One that is gone already cannot be ended. One that was stopped is killed by its node's
            # Ray after five seconds.
            with suppress(Exception):
                ray.kill(actor, no_restart=True)
        if places is not None:
            with suppress(Exception):
                ray.util.remove_placement_group(places)


def _finish(processes: _Processes, owner: int) -> None:
    # A process that was forked from this one has copies of the handles, not the workers.
    if os.getpid() == owner:
        processes.end()
        release()


def _closed() -> ConfigError:
    return ConfigError("The workers were ended with close()", fix="Make a new predict unit.")


def _require_one_version(places: dict[int, Place]) -> None:
    for rank, place in places.items():
        for name, version in place.versions.items():
            expected = places[0].versions[name]
            if version != expected:
                raise ConfigError(
                    f"Worker {rank} on {place.host} has {name} {version}, worker 0 on "
                    f"{places[0].host} has {expected}",
                    expected="the same on all nodes",
                )


def _require_resources(ray: Any, bundle: dict[str, float], size: int) -> None:
    """Refuse what the cluster never has."""
    has = ray.cluster_resources()
    for name, needed in bundle.items():
        if has.get(name, 0) < needed * size:
            raise ConfigError(
                f"{size} workers need {needed * size:g} {name}s, the Ray cluster has "
                f"{has.get(name, 0):g}",
                fix="Use fewer workers, or give the cluster more.",
            )


def _occupied(ray: Any, bundle: dict[str, float], resources: Resources) -> ConfigError:
    free = ray.available_resources()
    wanted = ", ".join(f"{value * resources.workers:g} {name}s" for name, value in bundle.items())
    left = ", ".join(f"{free.get(name, 0):g} {name}s" for name in bundle)
    return ConfigError(
        f"The Ray cluster did not free {wanted} in pieces for {resources.workers} workers "
        f"({resources.placement}) within {resources.timeout:g} s; free are {left}",
        fix="Wait for other jobs to end, use fewer workers, or another placement.",
    )
