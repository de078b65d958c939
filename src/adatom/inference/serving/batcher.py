"""The batcher: one thread that computes what many threads ask for, together."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future

from adatom.core.errors import ConfigError
from adatom.data.atomic_data import AtomicData
from adatom.inference.available import checked_properties
from adatom.inference.composition import Key
from adatom.inference.packing import Item, packed
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.inference.prediction import Prediction
from adatom.inference.serving.counters import Counters
from adatom.inference.serving.errors import ServiceError
from adatom.inference.serving.grouping import asked, group_of, lone_atom, ordered, union
from adatom.inference.serving.isolation import Outcome, neighbors, outcomes
from adatom.inference.serving.waiting_room import Request, WaitingRoom

#: Structures that may wait.
MAX_WAITING = 1024
_numbers = itertools.count()


class Batcher:
    """Packs the requests of many threads into batches for one predict unit.

    Whatever waits when a batch is done goes into the next ones, by edges, as far as memory is
    expected to suffice; a batch that does not fit is split. The request that waits longest is in
    the next batch, so none waits forever. An error goes to the request that caused it, and to no
    other. A request that is cancelled before its batch begins is not computed.

    Args:
        unit: Predicts.
        max_waiting: Structures that may wait; more are refused, or wait outside.
        counters: Where numbers for monitoring go.
        name: Label of those numbers.

    Attributes:
        unit: The predict unit.

    Raises:
        ConfigError: If ``max_waiting`` is below 1.
    """

    def __init__(
        self,
        unit: MLIPPredictUnit,
        *,
        max_waiting: int = MAX_WAITING,
        counters: Counters | None = None,
        name: str = "",
    ) -> None:
        if max_waiting < 1:
            raise ConfigError(f"max_waiting is {max_waiting}", expected="at least 1")
        self.unit = unit
        self._runner = unit.runner
        self._counters = Counters() if counters is None else counters
        self._name = name
        self._room = WaitingRoom(max_waiting)
        # Held by who computes.
        self._turn = threading.Lock()
        self._worker = threading.Thread(target=self._work, name=f"batcher {name}", daemon=True)
        self._worker.start()

    @property
    def waiting(self) -> int:
        """Structures that wait for a batch."""
        return len(self._room)

    @property
    def alive(self) -> bool:
        """Whether requests are computed."""
        return self._worker.is_alive()

    def submit(
        self,
        system: AtomicData,
        properties: Collection[str] | None = None,
    ) -> Future[Prediction]:
        """Ask for one structure, and wait while too much is waiting; see :meth:`submit_all`."""
        return self.submit_all([system], properties)[0]

    def predict(self, item: Item, properties: Collection[str] | None = None) -> Prediction:
        """Compute one structure that the unit has checked, and wait for it.

        A thread that is the only one to ask computes itself: waking another one would take time.

        Args:
            item: The structure; its number does not matter.
            properties: As for :meth:`submit_all`.

        Raises:
            AdatomError: As :meth:`adatom.inference.predict_unit.MLIPPredictUnit.predict`.
            ClosedError: If the batcher was closed.
        """
        if not self._room.is_quiet or not self._turn.acquire(blocking=False):
            return self.submit_checked(item, properties).result()
        try:
            names = checked_properties(properties, self._runner.extras)
            request = Request(self._numbered(item.system, item.key), names)
            prepared = self._prepared([request])
            if prepared:
                self._batch(prepared)
        finally:
            self._turn.release()
        return request.future.result()

    def submit_checked(
        self, item: Item, properties: Collection[str] | None = None
    ) -> Future[Prediction]:
        """Ask for one structure that the unit has checked; else as :meth:`submit`.

        Args:
            item: The structure; its number does not matter.
            properties: As for :meth:`submit_all`.
        """
        names = checked_properties(properties, self._runner.extras)
        request = Request(self._numbered(item.system, item.key), names)
        self._room.put([request], wait=True)
        return request.future

    def submit_all(
        self,
        systems: Sequence[AtomicData],
        properties: Collection[str] | None = None,
        *,
        wait: bool = True,
    ) -> list[Future[Prediction]]:
        """Ask for structures, all or none of which are taken.

        Args:
            systems: Single systems, not changed afterwards.
            properties: See :meth:`adatom.inference.predict_unit.MLIPPredictUnit.predict`.
            wait: Wait while too much is waiting already, instead of refusing.

        Returns:
            One future per structure, with its prediction, or its own error.

        Raises:
            BusyError: If too much is waiting.
            ClosedError: If the batcher was closed.
            ConfigError: If there are more structures than may wait at all.
            UnknownNameError: If there is no such property.
        """
        names = checked_properties(properties, self._runner.extras)
        if len(systems) > self._room.max_waiting:
            raise ConfigError(
                f"{len(systems)} structures were sent at once",
                expected=f"at most {self._room.max_waiting}",
                fix="Send them in parts.",
            )
        requests, futures = [], []
        for system in systems:
            try:
                item = self._numbered(system, self._runner.key(system))
            except Exception as error:  # noqa: BLE001 (it belongs to this structure alone)
                futures.append(_failed(error))
                self._counters.add("structures", model=self._name, outcome=type(error).__name__)
            else:
                requests.append(Request(item, names))
                futures.append(requests[-1].future)
        if requests:
            self._room.put(requests, wait=wait)
        return futures

    def close(self) -> None:
        """Take nothing more, compute what waits, and stop."""
        self._room.close()
        if threading.current_thread() is not self._worker:
            self._worker.join()

    def _numbered(self, system: AtomicData, key: Key) -> Item:
        if system.edges is not None:
            # They are there; this only brings it to the device.
            system = self._runner.with_edges(system)
        return Item(next(_numbers), system, key)

    def _work(self) -> None:
        pending: list[Request] = []
        try:
            while True:
                room = self._runner.window_atoms() - sum(r.item.atoms for r in pending)
                taken = [] if pending and room <= 0 else self._room.take(room, wait=not pending)
                if taken is None and not pending:
                    return
                pending += self._prepared(taken or [])
                if pending:
                    with self._turn:
                        pending = self._batch(pending)
        except BaseException:
            self._abandon(pending)
            raise

    def _prepared(self, taken: Sequence[Request]) -> list[Request]:
        """Give new requests edges; answer lone atoms and those that have none to give."""
        by_number = {request.item.number: request for request in taken}
        network: list[Item] = []
        for request in taken:
            if request.future.cancelled():
                self._counters.add("cancelled", model=self._name)
            elif self._runner.single_atoms.concerns(request.item.system):
                self._answer(request, lone_atom(self._runner, request.item, request.names))
            else:
                network.append(request.item)
        good, bad = neighbors(self._runner, network) if network else ([], [])
        for item, error in bad:
            self._answer(by_number[item.number], error)
        return [by_number[item.number] for item in sorted(good, key=lambda item: item.number)]

    def _batch(self, pending: Sequence[Request]) -> list[Request]:
        """Compute one batch with the oldest request in it; return the requests that are left."""
        start = time.monotonic()
        waiting = {r.item.number: r for r in pending if not r.future.cancelled()}
        self._counters.add("cancelled", len(pending) - len(waiting), model=self._name)
        if not waiting:
            return []
        group = group_of(next(iter(waiting.values())).names)
        together = {n: r for n, r in waiting.items() if group_of(r.names) == group}
        names = union(r.names for r in together.values())
        items = ordered([r.item for r in together.values()])
        batch = next(packed(items, self._runner.fits(names)))
        failures = self._runner.memory.failures
        for item, outcome in outcomes(self._runner, batch, names):
            self._answer(waiting.pop(item.number), outcome)
        self._count(batch, time.monotonic() - start, self._runner.memory.failures - failures)
        return list(waiting.values())

    def _count(self, batch: Sequence[Item], seconds: float, splits: int) -> None:
        self._room.answered(len(batch), seconds)
        edges = sum(item.edges for item in batch)
        counts = {"batches": 1, "batch_seconds": seconds, "edges": edges, "memory_splits": splits}
        for name, amount in counts.items():
            self._counters.add(name, amount, model=self._name)

    def _answer(self, request: Request, outcome: Outcome) -> None:
        # From here on nobody can cancel it.
        if not request.future.set_running_or_notify_cancel():
            self._counters.add("cancelled", model=self._name)
            return
        failed = isinstance(outcome, Exception)
        label = type(outcome).__name__ if failed else "ok"
        self._counters.add("structures", model=self._name, outcome=label)
        self._counters.observe(time.monotonic() - request.arrived, model=self._name)
        if isinstance(outcome, Exception):
            request.future.set_exception(outcome)
        else:
            request.future.set_result(asked(outcome, request.names))

    def _abandon(self, pending: list[Request]) -> None:
        """Fail everything that waits, because nobody will compute it."""
        self._room.close()
        while taken := self._room.take(2**62, wait=False):
            pending += taken
        for request in pending:
            if not request.future.done():
                request.future.set_exception(
                    ServiceError(
                        "The batcher ended by an error of its own", fix="See the log; restart it."
                    )
                )


def _failed(error: Exception) -> Future[Prediction]:
    future: Future[Prediction] = Future()
    future.set_exception(error)
    return future
