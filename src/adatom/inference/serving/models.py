"""The potentials that a service offers, each of which may be replaced while it works."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import orjson
import torch

from adatom.checkpoint.description import describe
from adatom.core.errors import ConfigError, unknown_name
from adatom.data.atomic_data import AtomicData
from adatom.inference.predict_unit import MLIPPredictUnit
from adatom.inference.prediction import Prediction
from adatom.inference.serving.batcher import MAX_WAITING, Batcher
from adatom.inference.serving.counters import Counters
from adatom.inference.serving.errors import ClosedError

_DIGITS = 12


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One potential at work.

    Attributes:
        name: What it is asked for by.
        version: Changes whenever its numbers may.
        batcher: Computes.
    """

    name: str
    version: str
    batcher: Batcher

    def describe(self) -> dict[str, Any]:
        """Return what a client has to know, as plain JSON values."""
        unit = self.batcher.unit
        potential = unit.potential
        tasks = {
            name: {
                "elements": list(domain.elements),
                "charges": list(domain.charges),
                "spins": list(domain.spins),
                "properties": sorted(potential.properties(name)),
                "relaxed": potential.is_relaxed(name),
            }
            for name, domain in potential.domains.items()
        }
        return {
            "name": self.name,
            "version": self.version,
            "dtype": str(unit.dtype).removeprefix("torch."),
            "cutoff": float(potential.cutoff),
            "tasks": tasks,
        }


class ServedModels:
    """Potentials by name.

    Args:
        counters: Where numbers for monitoring go.
        max_waiting: Structures that may wait, for each potential.
    """

    def __init__(self, counters: Counters, *, max_waiting: int = MAX_WAITING) -> None:
        self._counters = counters
        self._max_waiting = max_waiting
        self._models: dict[str, ServedModel] = {}
        self._lock = threading.Lock()
        counters.gauge("waiting_structures", "Structures that wait for a batch", self._waiting)

    def __iter__(self) -> Any:
        return iter(list(self._models.values()))

    def put(self, name: str, unit: MLIPPredictUnit) -> ServedModel:
        """Offer a potential, in place of one of that name if there is one.

        The old one computes all that it has taken already; from this moment on, requests go to the
        new one. Returns when the old one is done.

        Args:
            name: What it is asked for by.
            unit: Predicts.
        """
        batcher = Batcher(unit, max_waiting=self._max_waiting, counters=self._counters, name=name)
        model = ServedModel(name, version_of(unit), batcher)
        with self._lock:
            before = self._models.get(name)
            self._models[name] = model
        if before is not None:
            self._counters.add("swaps", model=name)
            before.batcher.close()
        return model

    def get(self, name: str | None) -> ServedModel:
        """Return a potential.

        Args:
            name: None means the only one.

        Raises:
            UnknownNameError: If there is none of that name.
            ConfigError: If None is given and there are several.
        """
        if name is None:
            if len(self._models) == 1:
                return next(iter(self._models.values()))
            raise ConfigError(
                "Several models are served and none was chosen",
                expected=f"'model' among: {', '.join(sorted(self._models))}",
            )
        if name not in self._models:
            raise unknown_name("model", name, self._models)
        return self._models[name]

    def submit(
        self,
        model: ServedModel,
        systems: Sequence[AtomicData],
        properties: Collection[str] | None,
    ) -> tuple[ServedModel, list[Future[Prediction]]]:
        """Ask a potential, or the one that took its place meanwhile.

        Args:
            model: Of :meth:`get`.
            systems: Single systems.
            properties: See :meth:`adatom.inference.serving.batcher.Batcher.submit_all`.

        Returns:
            The potential that computes, and one future per structure.

        Raises:
            BusyError: If too much is waiting.
            ClosedError: If the service ends.
        """
        while True:
            try:
                return model, model.batcher.submit_all(systems, properties, wait=False)
            except ClosedError:
                now = self._models.get(model.name)
                if now is None or now is model:
                    raise
                model = now

    def close(self) -> None:
        """Compute what waits, and stop."""
        for model in self:
            model.batcher.close()

    @property
    def alive(self) -> bool:
        """Whether all of them compute."""
        return all(model.batcher.alive for model in self)

    def _waiting(self) -> list[tuple[dict[str, str], float]]:
        return [({"model": m.name}, float(m.batcher.waiting)) for m in self]


def version_of(unit: MLIPPredictUnit) -> str:
    """Return a short fingerprint of everything that a unit's numbers depend on."""
    potential = unit.potential
    told = {
        "potential": describe(potential),
        "dtype": str(unit.dtype),
        "tf32": unit.settings.tf32,
    }
    digest = hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS))
    for name, tensor in sorted(potential.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:_DIGITS]
