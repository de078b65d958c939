"""From the body of a request to structures that wait for a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from adatom.core.errors import AdatomError, DataError, UnknownNameError
from adatom.data.atomic_data import AtomicData
from adatom.inference.available import checked_properties
from adatom.inference.prediction import Prediction
from adatom.inference.serving.counters import Counters
from adatom.inference.serving.errors import BusyError, ClosedError
from adatom.inference.serving.limits import Limits
from adatom.inference.serving.models import ServedModel, ServedModels
from adatom.inference.serving.wire import PredictRequest, parse_request, parse_structure

#: Seconds after which a client may find another service, when this one ends.
_ENDING = 5.0


class Refusal(Exception):  # noqa: N818 (it is an answer)
    """A request that is answered with a status of its own.

    Args:
        status: Of HTTP.
        error: What the client is told.
        headers: Further headers.
    """

    def __init__(
        self, status: int, error: AdatomError, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(str(error))
        self.status = status
        self.error = error
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request whose structures wait, or have failed already.

    Attributes:
        model: What computes.
        ids: One name per structure.
        futures: One per structure.
    """

    model: ServedModel
    ids: list[str]
    futures: list[Future[Prediction]]


class Intake:
    """Checks requests.

    Args:
        models: Compute.
        counters: Numbers for monitoring.
        limits: Of one request.

    Attributes:
        draining: Whether everything is refused, because the service ends.
    """

    def __init__(self, models: ServedModels, counters: Counters, limits: Limits) -> None:
        self._models = models
        self._counters = counters
        self._limits = limits
        self.draining = False

    def accept(self, body: bytes) -> Accepted:
        """Read a request and hand its structures over.

        Args:
            body: JSON.

        Raises:
            Refusal: If it cannot be accepted as a whole.
        """
        if self.draining:
            raise _busy(BusyError("The service ends", retry_after=_ENDING))
        try:
            asked = parse_request(body)
        except AdatomError as error:
            raise Refusal(400, error) from error
        model = self._model(asked)
        count = len(asked.structures)
        if count > self._limits.max_structures:
            raise Refusal(
                413,
                DataError(
                    f"The request has {count} structures",
                    expected=f"at most {self._limits.max_structures}",
                    fix="Send them in parts.",
                ),
            )
        systems, failed = self._systems(model, asked)
        try:
            found, futures = self._models.submit(model, list(systems.values()), asked.properties)
        except (BusyError, ClosedError) as error:
            self._counters.add("rejected", model=model.name)
            raise _busy(error) from error
        if asked.version not in (None, found.version):
            for future in futures:
                future.cancel()
            raise _replaced(found, asked.version)
        by_place = failed | dict(zip(systems, futures, strict=True))
        return Accepted(found, _ids(asked.structures), [by_place[i] for i in range(count)])

    def _model(self, asked: PredictRequest) -> ServedModel:
        try:
            model = self._models.get(asked.model)
        except UnknownNameError as error:
            raise Refusal(404, error) from error
        except AdatomError as error:
            raise Refusal(400, error) from error
        try:
            checked_properties(asked.properties)
        except AdatomError as error:
            raise Refusal(400, error) from error
        if asked.version not in (None, model.version):
            raise _replaced(model, asked.version)
        return model

    def _systems(
        self, model: ServedModel, asked: PredictRequest
    ) -> tuple[dict[int, AtomicData], dict[int, Future[Prediction]]]:
        """Return valid structures and the errors of the others, by their place."""
        potential = model.batcher.unit.potential
        hessian = "hessian" in (asked.properties or ())
        systems: dict[int, AtomicData] = {}
        failed: dict[int, Future[Prediction]] = {}
        for i, given in enumerate(asked.structures):
            try:
                numbers = given.get("numbers") if isinstance(given, dict) else None
                if isinstance(numbers, list):
                    self._limits.check_atoms(len(numbers), f"structures[{i}]")
                system = parse_structure(given, i, potential.datasets)
                self._limits.check_cost(system, potential.cutoff, hessian=hessian)
                systems[i] = system
            except Exception as error:  # noqa: BLE001 (it belongs to this structure alone)
                failed[i] = Future()
                failed[i].set_exception(error)
                label = type(error).__name__
                self._counters.add("structures", model=model.name, outcome=label)
        return systems, failed


def _ids(structures: Sequence[Any]) -> list[str]:
    given = [s.get("id") if isinstance(s, dict) else None for s in structures]
    return [
        name if isinstance(name, str) and name else f"structures[{i}]"
        for i, name in enumerate(given)
    ]


def _replaced(model: ServedModel, asked: str | None) -> Refusal:
    error = DataError(
        f"The model {model.name!r} was replaced: it has the version {model.version!r} now",
        expected=f"version {asked!r}",
        fix="Start again with the new one; numbers of two versions do not mix.",
    )
    return Refusal(409, error)


def _busy(error: AdatomError) -> Refusal:
    seconds = error.retry_after if isinstance(error, BusyError) else _ENDING
    return Refusal(503, error, {"Retry-After": str(math.ceil(seconds))})
